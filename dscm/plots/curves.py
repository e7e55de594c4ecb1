"""Curves of several quantities over one setting, with matplotlib where it is installed."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from dscm.files import atomic_path

# Okabe and Ito's palette, told apart by the colour-blind; markers tell lines apart in grey, dashes the next seven.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":")
COLUMNS = 3
Point = tuple[float, Sequence[float]]  # the setting, and every quantity


def has_matplotlib() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_curves(
    path: Path, quantities: Sequence[str], lines: Mapping[str, Sequence[Point]], label: str, log: bool = False
) -> None:
    """Draw one panel for each quantity and one line for each name; nothing if no line has two points.

    Args:
        path: the PNG file, written atomically.
        quantities: the titles of the panels.
        lines: the points of each line.
        label: the label of the horizontal axis.
        log: whether that axis is logarithmic.
    """
    from matplotlib.figure import Figure

    drawn = {name: sorted(points, key=lambda point: point[0]) for name, points in lines.items() if len(points) > 1}
    if not drawn:
        return
    height = -(-len(quantities) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3 * height), layout="constrained")
    axes = figure.subplots(height, COLUMNS, squeeze=False)
    for k, (axis, title) in enumerate(zip(axes.flat, quantities)):
        for i, (name, points) in enumerate(drawn.items()):
            turn, j = divmod(i, len(COLOURS))
            style = {"color": COLOURS[j], "marker": MARKERS[j], "linestyle": DASHES[turn % len(DASHES)]}
            axis.plot([x for x, _ in points], [values[k] for _, values in points], label=name, markersize=4, **style)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        if log:
            axis.set_xscale("log")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(quantities) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
