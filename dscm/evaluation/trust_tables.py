"""The tables that measure the checks of answers, in Markdown."""

from dscm.evaluation.cells import Rows, table
from dscm.evaluation.foresight import ALL, SHARE

MEASURES = {  # the checks of `Checks.measures`, in words
    "support": "support",
    "noise": "typicality",
    "composition": "composition",
    "reading": "effectiveness",
    "wrong": "missed, moved",
    "identity": "identity",
    "edges": "edges",
    "doubt": "doubt",
}
FORESIGHT = (
    "How well each check foretells the error against the true counterfactual: rank correlation over the images, and "
    f"the share of the worst tenth that is among the most doubtful tenth ({100 * SHARE:g}% by chance). The share with "
    "a mark, of the worst tenth (of which the rest is missed) and of the others (false alarms). Doubt is a weighted "
    "sum of edges, the total variation of what an answer changes, of effectiveness and of support."
)
DETECTION = (
    "Whether the checks tell foreign images, and questions outside the training data, from test images and usual "
    "questions: area under the curve, and the share that raises an alarm."
)


def tabulate_trust(rows: Rows) -> list[str]:
    """Make the tables, each after what it shows; none where nothing was checked."""
    parts = []
    if any("foresight" in record.metrics for _, record in rows):
        parts += [FORESIGHT, _foresight(rows)]
    if any("detection" in record.metrics for _, record in rows):
        parts += [DETECTION, _detection(rows)]
    return parts


def _foresight(rows: Rows) -> str:
    """Tabulate how well every check foretells the error under each intervention."""
    lines = []
    for label, record in rows:
        for do, found in record.metrics.get("foresight", {}).items():
            cells = []
            for measure in MEASURES:
                numbers = [found.get(f"{measure}_{kind}") for kind in ("correlation", "caught")]
                cells.append("–" if None in numbers else f"{numbers[0]:.2f}, {100 * numbers[1]:.0f}%")
            marked = [found.get(f"marked_{kind}") for kind in ("worst", "rest")]
            share = "–" if None in marked else ", ".join(f"{100 * x:.1f}" for x in marked)
            lines.append([label, ALL if do == ALL else f"do({do})", *cells, share])
    return table(["mechanism", "intervention", *MEASURES.values(), "marked % of the worst, others"], lines)


def _detection(rows: Rows) -> str:
    """Tabulate how well foreign images and questions are detected."""
    lines = []
    for label, record in rows:
        for kind, found in record.metrics.get("detection", {}).items():
            area = found.get("area")
            lines.append([label, kind, "–" if area is None else f"{area:.3f}", f"{100 * found['alarmed']:.1f}"])
    return table(["mechanism", "images or questions", "area", "alarmed %"], lines)
