"""Cells of the tables of an evaluation: the names of metrics, and numbers with their intervals."""

from collections.abc import Sequence

from dscm.causal.variables import Variable
from dscm.evaluation.records import Record, lookup

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "mae": "MAE",
    "mape": "MAPE",
    "l1": "L1",
    "l1_8bit": "L1, 8 bits",
    "lpips": "LPIPS",
}
WHOLE = "_frechet"  # end of the names of metrics that all images have together, so that none can be left out
Rows = Sequence[tuple[str, Record]]  # the name of each row, and its record


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main_error(variable: Variable) -> str:
    """Name the error that sums up an intervention on a variable; MAPE suits values that stay away from zero."""
    if variable.discrete:
        return "f1" if variable.kind == "binary" else "accuracy"
    return "mape" if variable.kind == "positive" else "mae"


def cell(record: Record, path: tuple[str, ...], factor: float, decimals: int) -> str:
    """Write a number of a record with its interval, if it has one; of the first cycle, where there are several."""
    value, interval = lookup(record.metrics, path), lookup(record.intervals, path)
    if value is None:
        return "–"
    if isinstance(value, list):
        value, interval = value[0], interval[0]
    if path[-1].endswith(WHOLE):
        return f"{factor * value:.{decimals}f}"
    low, high = interval
    return f"{factor * value:.{decimals}f} [{factor * low:.{decimals}f}, {factor * high:.{decimals}f}]"
