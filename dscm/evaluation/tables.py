"""The tables of an evaluation: Markdown to read, and paired differences as CSV."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence

from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.variables import Variable
from dscm.evaluation.configuration import Conditions
from dscm.evaluation.records import IMAGE, Record, Records, lookup
from dscm.evaluation.statistics import RATIOS, bootstrap_interval, summarise

SPLITS = {"test": "test", "valid": "validation"}  # in words
METRIC_NAMES = {"accuracy": "accuracy", "f1": "F1", "mae": "MAE", "mape": "MAPE"}
Rows = Sequence[tuple[str, Record]]  # the name of each row, and its record


def markdown(records: Records, graph: Graph) -> str:
    """Lay the records of a folder side by side.

    Args:
        records: with the numbers of every image.
        graph: the causal graph.

    Returns:
        Markdown: soundness, effectiveness, each cycle if there are several, and the paired differences of every
        row to the first. L1 is ×10⁻² on [0, 1]; intervals are 95% bootstrap intervals over the images.
    """
    rows = list(zip(records.labels, records.records))
    conditions = records.conditions
    low, high = conditions.guidance_interval
    caption = (
        f"{conditions.n} {SPLITS[conditions.split]} images, seed {conditions.seed}, "
        f"{conditions.sampler} interventions, "
        f"{describe_solver(conditions)}, guided at σ from {low:g} to {high:g}, {conditions.cycles} cycle(s). "
        "L1 ×10⁻² on [0, 1], LPIPS ×10⁻² (AlexNet), with 95% bootstrap intervals over the images. Unsolved: how far "
        "the worst implicit step of an inversion still moved a pixel on [-1, 1] (RMS, mean over the images)."
    )
    parts = [caption, _soundness(rows, graph), _identity(rows, graph), _effectiveness(rows, graph)]
    if any(variable.kind == "binary" for variable in graph.attributes):
        parts.append(_removal(rows, graph))
    if conditions.cycles > 1:
        parts.append(_cycles(rows, graph, conditions.cycles))
    if len(rows) > 1:
        parts.append(f"Paired differences to {rows[0][0]} (L1 and LPIPS ×10⁻²):")
        parts.append(_differences(records, rows, graph))
    return "\n\n".join(parts) + "\n"


def describe_solver(conditions: Conditions) -> str:
    """Describe the solver of the ODE in a few words."""
    implicit = f", implicit steps of {conditions.fixed_point} evaluation(s)" if conditions.fixed_point else ""
    low = ", bfloat16" if conditions.precision == "bfloat16" else ""
    grid = f"grid {conditions.grid} to σ = {conditions.sigma_min:g}"
    return f"{conditions.steps} steps of {conditions.solver}{implicit}, {grid}{low}"


def differences(records: Records) -> str:
    """Write, for every pair of rows and every metric, the mean paired difference with its interval, as CSV."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["metric", "row", "minus", "difference", "low", "high"])
    rows = [(label, records.values(record)) for label, record in zip(records.labels, records.records)]
    for (base, theirs), (label, values) in itertools.combinations(rows, 2):
        for metric in sorted(theirs.keys() & values.keys()):
            if not metric.startswith(IMAGE) and metric != "seconds":
                lines.writerow([metric, label, base, *_paired(metric, values[metric], theirs[metric])])
    return file.getvalue()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main_error(variable: Variable) -> str:
    """Name the error that sums up an intervention on a variable; MAPE suits values that stay away from zero."""
    if variable.discrete:
        return "f1" if variable.kind == "binary" else "accuracy"
    return "mape" if variable.kind == "positive" else "mae"


def _soundness(rows: Rows, graph: Graph) -> str:
    """Tabulate composition, reversibility, truth and cost."""
    names = list(graph.interventions)
    true = [name for name in names if name in rows[0][1].metrics.get("truth", {})]
    header = ["mechanism", "composition", *(f"reversibility do({name})" for name in names)]
    header += [f"truth do({name}) (factual)" for name in true]
    header += ["unsolved", "M parameters", "minutes of training", "s/image"]
    lines = []
    for label, record in rows:
        line = [label, _cell(record, ("composition", "l1"), 100, 3)]
        line += [_cell(record, ("reversibility", name, "l1"), 100, 3) for name in names]
        for name in true:
            factual = 100 * record.metrics["truth"][name]["factual_l1"]
            line.append(f"{_cell(record, ('truth', name, 'l1'), 100, 3)} ({factual:.3f})")
        unsolved = record.metrics.get("unsolved")
        lines.append([*line, "–" if unsolved is None else f"{unsolved:.1e}", *_cost(record)])
    return table(header, lines)


def _cost(record: Record) -> list[str]:
    """Write millions of parameters, minutes of training, and seconds of an abduction and a prediction."""
    parameters, minutes = record.configuration.parameters, record.configuration.training_minutes
    return [
        f"{parameters / 1e6:.2f}" if parameters else "–",
        f"{minutes:.0f}" if minutes else "–",
        f"{record.seconds:.3f}",
    ]


def _identity(rows: Rows, graph: Graph) -> str:
    """Tabulate LPIPS of the composition, and LPIPS and L1 between the composition and each counterfactual."""
    header = ["mechanism", "composition LPIPS"]
    header += [f"identity do({name}) LPIPS, L1" for name in graph.interventions]
    lines = []
    for label, record in rows:
        line = [label, _cell(record, ("composition", "lpips"), 100, 3)]
        for name in graph.interventions:
            line.append(", ".join(_cell(record, ("identity", name, distance), 100, 2) for distance in ("lpips", "l1")))
        lines.append(line)
    return table(header, lines)


def _effectiveness(rows: Rows, graph: Graph) -> str:
    """Tabulate the errors of every attribute under every intervention."""
    columns: list[tuple[str, str, str, float, int]] = []  # header, attribute, metric, factor, decimals
    for variable in graph.attributes:
        if variable.discrete:
            columns.append((f"{variable.name} accuracy %", variable.name, "accuracy", 100, 1))
            if variable.kind == "binary":
                columns.append((f"{variable.name} F1 %", variable.name, "f1", 100, 1))
            continue
        columns.append((f"{variable.name} MAE {variable.unit}", variable.name, "mae", 1, 3))
        if main_error(variable) == "mape":
            columns.append((f"{variable.name} MAPE %", variable.name, "mape", 100, 2))
    lines = []
    for label, record in rows:
        for do in record.metrics["effectiveness"]:
            cells = [_cell(record, ("effectiveness", do, a, m), factor, digits) for _, a, m, factor, digits in columns]
            lines.append([label, f"do({do})", *cells])
    return table(["mechanism", "intervention", *(column[0] for column in columns)], lines)


def _removal(rows: Rows, graph: Graph) -> str:
    """Tabulate the fraction of successful removals of binary attributes, and the error in their place and elsewhere."""
    lines = []
    binary = {variable.name for variable in graph.attributes if variable.kind == "binary"}
    for label, record in rows:
        for do in filter(binary.__contains__, graph.interventions):
            cells = [_cell(record, ("effectiveness", do, do, "removed"), 100, 1)]
            cells += [_cell(record, ("truth", do, part), 100, 3) for part in ("inside_l1", "outside_l1")]
            lines.append([label, f"do({do})", *cells])
    header = ["mechanism", "intervention", "removed %", "truth L1 inside its place", "truth L1 outside"]
    return table(header, lines)


def _cycles(rows: Rows, graph: Graph, cycles: int) -> str:
    """Tabulate composition and reversibility after each cycle."""
    paths: dict[str, tuple[str, ...]] = {}
    for distance in ("l1", "lpips"):
        paths[f"composition {distance.upper()}"] = ("composition", distance)
        for do in graph.interventions:
            paths[f"reversibility do({do}) {distance.upper()}"] = ("reversibility", do, distance)
    lines = [
        [label, name, *(f"{100 * x:.3f}" for x in lookup(record.metrics, path))]
        for label, record in rows
        for name, path in paths.items()
        if lookup(record.metrics, path) is not None
    ]
    return table(["mechanism", "after cycle", *(str(k + 1) for k in range(cycles))], lines)


def _differences(records: Records, rows: Rows, graph: Graph) -> str:
    """Tabulate each row minus the first one, image by image, for the metrics that sum a mechanism up."""
    metrics = _summary_metrics(graph)
    base = records.values(rows[0][1])
    lines = []
    for label, record in rows[1:]:
        values, line = records.values(record), [label]
        for metric, factor in metrics.values():
            if metric in values and metric in base:
                mean, low, high = (factor * x for x in _paired(metric, values[metric], base[metric]))
                line.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
            else:
                line.append("–")
        lines.append(line)
    return table(["mechanism", *metrics], lines)


def _summary_metrics(graph: Graph) -> Mapping[str, tuple[str, float]]:
    """List the metrics that sum a mechanism up: by title, the path of each and the factor that it is shown with."""
    metrics: dict[str, tuple[str, float]] = {"composition L1": ("composition/l1", 100)}
    for do in graph.interventions:
        variable = graph.variable(do)
        error = main_error(variable)
        unit, factor = (variable.unit, 1) if error == "mae" else ("%", 100)
        metrics[f"reversibility do({do})"] = (f"reversibility/{do}/l1", 100)
        title = f"{do} {METRIC_NAMES[error]} {unit} under do({do})"
        metrics[title] = (f"effectiveness/{do}/{do}/{error}", factor)
        metrics[f"identity LPIPS do({do})"] = (f"identity/{do}/lpips", 100)
    return metrics


def _paired(path: str, a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """Return the mean of ``a`` − ``b`` on the same images, and its interval; of the first cycle of several."""
    metric = path.rpartition("/")[2]
    if a.dim() > 1 and metric not in RATIOS:
        a, b = a[:, 0], b[:, 0]
    low, high = bootstrap_interval(metric, a, b).tolist()
    return (summarise(metric, a) - summarise(metric, b)).item(), low, high


def _cell(record: Record, path: tuple[str, ...], factor: float, decimals: int) -> str:
    """Write a number of a record with its interval; of the first cycle, where there are several."""
    value, interval = lookup(record.metrics, path), lookup(record.intervals, path)
    if value is None:
        return "–"
    if isinstance(value, list):
        value, interval = value[0], interval[0]
    low, high = interval
    return f"{factor * value:.{decimals}f} [{factor * low:.{decimals}f}, {factor * high:.{decimals}f}]"
