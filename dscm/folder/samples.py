"""Draw images and their attributes from a model, as a folder of images with ``attributes.csv``."""

from collections.abc import Mapping
from pathlib import Path

import torch
from tqdm import tqdm

from dscm.causal.graph import Graph
from dscm.causal.scm import SCM
from dscm.data.scaling import to_levels
from dscm.data.table import write_csv
from dscm.files import atomic_path
from dscm.folder.reader import TABLE
from dscm.folder.writer import SHEET
from dscm.plots.sheets import Row, draw_sheet, to_picture

IMAGES = "images"
COLUMNS, ROWS = 12, 4  # of the contact sheet


@torch.no_grad()
def write_samples(
    out: Path, scm: SCM, graph: Graph, n: int, do: Mapping[str, float], batch: int, generator: torch.Generator
) -> None:
    """Draw from the model; write ``images/``, a folder with ``attributes.csv``, and ``grid.png`` beside it.

    Args:
        out: the folder.
        scm: the model.
        graph: its causal graph.
        n: number of samples.
        do: values of the variables that are set in all of them.
        batch: number of images at a time.
        generator: source of the noise, on the model's device.
    """
    table: dict[str, list[str]] = {name: [] for name in ("image", *(variable.name for variable in graph.attributes))}
    shown: list[torch.Tensor] = []
    with tqdm(total=n, unit="image", desc="samples") as bar:
        for start in range(0, n, batch):
            values = scm.sample(min(batch, n - start), generator, do)
            images = to_levels(values["image"]).cpu()
            for i, image in enumerate(images, start):
                with atomic_path(out / IMAGES / f"{i:05}.png") as temporary:
                    to_picture(image).save(temporary, format="PNG")
                table["image"].append(f"{i:05}.png")
            for variable in graph.attributes:
                table[variable.name] += [variable.show(value) for value in values[variable.name].tolist()]
            shown += list(images[: COLUMNS * ROWS - len(shown)])
            bar.update(len(images))
    write_csv(out / IMAGES / TABLE, table)
    rows = [Row("", torch.stack(shown[i : i + COLUMNS])) for i in range(0, len(shown), COLUMNS)]
    values_set = ", ".join(f"{name}={value:g}" for name, value in do.items())
    title = f"{graph.name}: {len(shown)} of {n} samples" + (f" under do({values_set})" if do else "")
    draw_sheet(out / SHEET, rows, title)
