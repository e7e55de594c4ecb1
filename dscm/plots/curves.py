"""Trade-off curves over ω and η, with matplotlib where it is installed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dscm.files import atomic_path
from dscm.causal.graph import Graph
from dscm.evaluation.tables import METRIC_NAMES, name_row, own_metric
from dscm.evaluation.records import lookup

Record = Mapping[str, Any]
# Okabe and Ito's palette, told apart by the colour-blind; markers tell lines apart in grey, dashes the next seven.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":")


def draw_curves(folder: Path, records: Sequence[Record], graph: Graph) -> str:
    """Draw ``tradeoff.png`` (over ω, paper, Fig. 4) and ``alignment.png`` (over η of dynamic abduction, Fig. 5).

    A picture is left out where no line would have two points.

    Args:
        folder: where they are written.
        records: as evaluate.py writes them.
        graph: the causal graph.

    Returns:
        A line that says how to get the curves, where matplotlib is not installed; otherwise nothing.
    """
    records = [record for record in records if record["guidance"] is not None]
    try:
        import matplotlib
    except ImportError:
        return "no curves: matplotlib is not installed; pip install -e '.[plots]' brings it"
    matplotlib.use("Agg")
    panels = quantities(records, graph)
    aligned = [record for record in records if record["cta_lr"] is not None]
    _draw(folder / "tradeoff.png", records, panels, "guidance", "guidance ω", _name_method)
    _draw(folder / "alignment.png", aligned, panels, "cta_lr", "step size η", _name_alignment)
    return ""


def quantities(records: Sequence[Record], graph: Graph) -> dict[str, Callable[[Record], float]]:
    """Return what is drawn: composition, mean identity over interventions, and each intervention's own error."""
    kind = "lpips" if all(r["composition"]["lpips"] is not None for r in records) else "l1"
    doings = list(graph.interventions)

    def first(path: tuple[str, ...]) -> Callable[[Record], float]:
        return lambda record: lookup(record, path)[0]

    def identity(record: Record) -> float:
        return sum(record["identity"][name][kind] for name in doings) / len(doings)

    result = {"composition L1": first(("composition", "l1")), f"identity {kind.upper()}, mean over do": identity}
    for variable in graph.attributes:
        if variable.name in doings:
            own = own_metric(variable)
            path = ("effectiveness", variable.name, variable.name, own)
            result[f"{variable.name} {METRIC_NAMES[own]} under do({variable.name})"] = lambda r, path=path: lookup(
                r, path
            )
    return result


def _name_method(record: Record, records: Sequence[Record]) -> str:
    """Name a line over ω: the row's name without ω."""
    return name_row(record, records).rsplit(" ", 1)[0]


def _name_alignment(record: Record, records: Sequence[Record]) -> str:
    """Name a line over η: the row's name without η."""
    return " ".join(word for word in name_row(record, records).split(" ") if not word.startswith("η"))


def _draw(
    path: Path,
    records: Sequence[Record],
    panels: Mapping[str, Callable[[Record], float]],
    x: str,
    label: str,
    name: Callable[[Record, Sequence[Record]], str],
) -> None:
    """Draw one panel for each quantity and one line for each name, against the entry ``x`` of the records."""
    from matplotlib import pyplot

    lines: dict[str, list[Record]] = {}
    for record in records:
        lines.setdefault(name(record, records), []).append(record)
    lines = {key: sorted(points, key=lambda r: r[x]) for key, points in lines.items() if len(points) > 1}
    if not lines:
        return
    columns = 3
    height = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(height, columns, figsize=(4 * columns, 3 * height), squeeze=False)
    for axis, (title, value) in zip(axes.flat, panels.items()):
        for i, (key, points) in enumerate(lines.items()):
            turn, i = divmod(i, len(COLOURS))
            style = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": DASHES[turn % len(DASHES)]}
            axis.plot([r[x] for r in points], [value(r) for r in points], label=key, markersize=4, **style)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        if x == "cta_lr":
            axis.set_xscale("log")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=8)
    figure.set_layout_engine("constrained")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)
