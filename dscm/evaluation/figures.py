"""The pictures of an evaluation: the soundness sheet, the paper's panels, and its trade-off curves."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from dscm.causal.graph import Graph
from dscm.evaluation.cells import METRIC_NAMES, main_error
from dscm.evaluation.configuration import Configuration
from dscm.evaluation.records import Record, Records, lookup
from dscm.evaluation.statistics import CHANGED
from dscm.evaluation.tables import describe_path
from dscm.plots.curves import Point, draw_curves
from dscm.plots.sheets import Row, draw_comparison, draw_panel, draw_sheet

Quantity = Callable[[Record], float]


def draw_soundness(path: Path, records: Records) -> None:
    """Draw observations, compositions, counterfactuals and reversals of each checkpoint at its middle ω."""
    sheet = []
    rows = [record.configuration for record in records.records]
    for sha256 in dict.fromkeys(row.sha256 for row in rows):
        alike = [record for record in records.records if record.configuration.sha256 == sha256]
        plain = [r for r in alike if not (r.configuration.abduction or r.configuration.variant)] or alike
        middle = plain[len(plain) // 2]
        for label, images in records.images(middle).items():
            prefix = f"{middle.configuration.label(rows)}: " if label == "observation" else ""
            sheet.append(Row(prefix + label, images, label.endswith("reversed")))
    draw_sheet(path, sheet, describe_path(records))


def draw_panels(folder: Path, records: Records, graph: Graph) -> None:
    """Draw ``panel_<row>.png`` for each record, and ``comparison_<variable>.png`` for each intervention.

    Args:
        folder: where they are written.
        records: with their images.
        graph: the causal graph.
    """
    names = list(graph.interventions)
    rows = list(zip(records.labels, records.records, map(records.images, records.records)))
    for label, record, images in rows:
        draw_panel(folder / f"panel_{Path(record.values).stem}.png", images, names, label)
    by_guidance = sorted(rows, key=lambda row: _omega(row[1]))
    for name in names:
        draw_comparison(folder / f"comparison_{name}.png", [(label, images) for label, _, images in by_guidance], name)


def draw_trade_offs(folder: Path, records: Records, graph: Graph) -> None:
    """Draw ``tradeoff.png`` over ω (paper, Fig. 4) and ``alignment.png`` over η of dynamic abduction (Fig. 5).

    Args:
        folder: where they are written; a picture is left out if no line would have two points.
        records: the records; those with guidance are drawn.
        graph: the causal graph.
    """
    guided = [record for record in records.records if record.configuration.guidance]
    aligned = [record for record in guided if record.configuration.alignment]
    quantities = _quantities(guided, graph)
    titles = list(quantities)
    rows = [record.configuration for record in records.records]
    draw_curves(folder / "tradeoff.png", titles, _lines(guided, rows, quantities, "ω"), "guidance ω")
    draw_curves(folder / "alignment.png", titles, _lines(aligned, rows, quantities, "η"), "step size η", log=True)


def _lines(
    records: list[Record],
    rows: Sequence[Configuration],
    quantities: Mapping[str, Quantity],
    symbol: Literal["ω", "η"],
) -> dict[str, list[Point]]:
    """Join the rows that differ in ω, or in η, alone; they are named as among all ``rows``."""
    lines: dict[str, list[Point]] = {}
    for record in records:
        alignment = record.configuration.alignment
        x = alignment.rate if symbol == "η" and alignment else _omega(record)
        point = (x, [quantity(record) for quantity in quantities.values()])
        lines.setdefault(record.configuration.label(rows, without=symbol), []).append(point)
    return lines


def _quantities(records: list[Record], graph: Graph) -> dict[str, Quantity]:
    """Return the quantities to draw: composition, mean identity, and the main error of each intervention."""
    distance, names = "lpips" if all(record.has_lpips for record in records) else "l1", list(graph.interventions)

    def composition(record: Record) -> float:
        return sum(record.metrics["composition"][name]["l1"][0] for name in names) / len(names)

    def identity(record: Record) -> float:
        return sum(record.metrics["identity"][name][distance] for name in names) / len(names)

    result: dict[str, Quantity] = {
        "composition L1, mean over do": composition,
        f"identity {distance.upper()}, mean over do": identity,
    }
    for variable in graph.attributes:
        if variable.name in names:
            error = main_error(variable)
            path = ("effectiveness", variable.name, variable.name, CHANGED + error)
            result[f"{variable.name} {METRIC_NAMES[error]} where do({variable.name}) changes it"] = _reader(path)
    return result


def _reader(path: tuple[str, ...]) -> Quantity:
    """Return the function that reads one metric of a record."""
    return lambda record: lookup(record.metrics, path)


def _omega(record: Record) -> float:
    """Return the largest ω of a record; 0 for a mechanism without guidance."""
    guidance = record.configuration.guidance
    return guidance.largest if guidance else 0.0
