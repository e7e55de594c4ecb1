"""The files that an evaluation writes about all records of a folder: tables and pictures."""

import sys

from dscm.causal.graph import Graph
from dscm.evaluation import figures as pictures
from dscm.evaluation import tables
from dscm.evaluation.comparisons import write_differences
from dscm.evaluation.records import Records
from dscm.files import atomic_path
from dscm.plots.curves import has_matplotlib

MARKDOWN, DIFFERENCES, SHEET = "metrics.md", "differences.csv", "soundness.png"


def write_reports(records: Records, graph: Graph, figures: bool) -> None:
    """Write the tables and the pictures of every record of a folder.

    Args:
        records: the records of the folder.
        graph: the causal graph.
        figures: also draw the paper's panels and curves.
    """
    out = records.folder
    with atomic_path(out / MARKDOWN) as temporary:
        temporary.write_text(tables.markdown(records, graph), encoding="utf-8")
    with atomic_path(out / DIFFERENCES) as temporary:
        temporary.write_text(write_differences(records), encoding="utf-8")
    pictures.draw_soundness(out / SHEET, records)
    if figures:
        pictures.draw_panels(out, records, graph)
        if has_matplotlib():
            pictures.draw_trade_offs(out, records, graph)
        else:
            print("no curves: matplotlib is not installed; pip install -e '.[plots]' brings it", file=sys.stderr)
