"""Draw samples from a model into a folder: pictures with their attributes, and a contact sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.scm import SCM
from dscm.causal.values import find_failures, refuse
from dscm.data.images import read_image
from dscm.data.scaling import to_levels
from dscm.files import atomic_path
from dscm.folder.ledger import Item, Ledger
from dscm.folder.reader import TABLE
from dscm.folder.writer import SHEET, SHOWN
from dscm.plots.sheets import Row, draw_sheet, to_picture

IMAGES, SAMPLES_SHOWN = "images", 4 * SHOWN


@dataclass(frozen=True)
class Draw:
    """Samples to draw.

    Args:
        n: how many.
        do: values of the variables that are set in all of them.
        batch: number of images at a time.
        seed: the seed of their noise, which each has for itself by its number.
    """

    n: int
    do: Mapping[str, float]
    batch: int
    seed: int


@torch.no_grad()
def write_samples(
    out: Path, scm: SCM, graph: Graph, draw: Draw, command: Mapping[str, Any], overwrite: bool, device: torch.device
) -> None:
    """Draw from the model; write ``images/``, a folder with ``attributes.csv``, and ``grid.png`` beside it.

    A command that was stopped, and is started again, goes on with the samples that are not there yet.

    Args:
        out: the folder.
        scm: the model.
        graph: its causal graph.
        draw: what to draw.
        command: what the samples depend on, as in `Ledger`.
        overwrite: start over in a folder that has content.
        device: the model's.

    Raises:
        InputError: the folder has content that is not of this command.
    """
    folder, names = out / IMAGES, [f"{i:05}.png" for i in range(draw.n)]
    columns = ["image", *(variable.name for variable in graph.attributes)]

    def select(items: Mapping[str, Item]) -> list[str]:
        return [name for name in items if (folder / name).is_file()]

    ledger = Ledger(out, f"{IMAGES}/{TABLE}", columns, command, dict.fromkeys(names, ""), select, overwrite)
    for start in tqdm(range(0, draw.n, draw.batch), unit_scale=draw.batch, unit="image", desc="samples"):
        some = names[start : start + draw.batch]
        if not ledger.finished.keys() >= set(some):
            values = scm.sample(len(some), make_streams(draw.seed, range(start, start + len(some)), device), draw.do)
            refuse(find_failures(graph.attributes, values), some)
            for name, image in zip(some, to_levels(values["image"]).cpu()):
                with atomic_path(folder / name) as temporary:
                    to_picture(image).save(temporary, format="PNG")
            shown = [[v.show(value) for value in values[v.name].tolist()] for v in graph.attributes]
            ledger.add(dict.fromkeys(some, {}), [list(row) for row in zip(some, *shown)])
    ledger.close()
    shape = cast(Any, scm.mechanism("image")).shape
    _draw(out, graph.name, shape, names, draw.do)


def _draw(out: Path, model: str, shape: Sequence[int], names: Sequence[str], do: Mapping[str, float]) -> None:
    """Draw the contact sheet of the first samples."""
    paths = [out / IMAGES / name for name in names[:SAMPLES_SHOWN]]
    shown = torch.stack([read_image(path, shape[-1], shape[0]) for path in paths])
    rows = [Row("", shown[i : i + SHOWN]) for i in range(0, len(shown), SHOWN)]
    values_set = ", ".join(f"{name}={value:g}" for name, value in do.items())
    title = f"{model}: {len(shown)} of {len(names)} samples" + (f" under do({values_set})" if do else "")
    draw_sheet(out / SHEET, rows, title)
