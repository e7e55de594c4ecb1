"""The paper's picture panels, from the images that evaluate.py keeps of each record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dscm.data.scaling import to_signed
from dscm.plots.sheets import Row, draw_sheet, effect_map
from dscm.causal.graph import Graph
from dscm.evaluation.tables import name_row
from dscm.evaluation.records import Results


def draw_panels(folder: Path, results: Results, graph: Graph) -> None:
    """Draw the soundness panel, the counterfactual grid and the comparison strips of a folder's records.

    Writes ``panel_<row>.png`` for each record (paper, Fig. 2b and 2c: what was observed, composed, changed, what
    the change is, and what reversing it gives) and ``comparison_<variable>.png`` for each intervention (Fig. 3c:
    one row for each record, those of one ω together).

    Args:
        folder: where they are written.
        results: the records and their images.
        graph: the causal graph.
    """
    records = results.records
    images = [shown(results, record) for record in records]
    for record, own in zip(records, images):
        rows = [Row("observation", own["observation"]), Row("composition", own["composition"])]
        for name in graph.interventions:
            rows.append(Row(f"do({name})", own[f"do({name})"]))
            rows.append(Row("effect", effect_of(own, name), attached=True))
            rows.append(Row("reversed", own[f"do({name}) reversed"], attached=True))
        title = f"{name_row(record, records)}. Effects: red is brighter than the composition, blue darker."
        draw_sheet(folder / f"panel_{Path(record['values']).stem}.png", rows, title)
    together = sorted(zip(records, images), key=lambda pair: pair[0]["guidance"] or 0)
    for name in graph.interventions:
        rows = [Row("observation", images[0]["observation"])]
        for record, own in together:
            rows.append(Row(name_row(record, records), own[f"do({name})"]))
            rows.append(Row("effect", effect_of(own, name), attached=True))
        draw_sheet(folder / f"comparison_{name}.png", rows, f"do({name}): the same images and values in every row")


def shown(results: Results, record: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the images that were kept of a record, uint8 (N, C, H, W), by label."""
    values = results.values(record)
    return {key.removeprefix("image/"): value for key, value in values.items() if key.startswith("image/")}


def effect_of(images: Mapping[str, Tensor], name: str) -> Tensor:
    """Colour what the intervention on ``name`` changed in the composition."""
    return effect_map(to_signed(images[f"do({name})"]), to_signed(images["composition"]))
