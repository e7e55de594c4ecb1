"""Draw samples from a model into a folder: pictures with their attributes, and a contact sheet."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from tqdm import tqdm

from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.scm import SCM, Intervention
from dscm.causal.values import find_failures
from dscm.data.images import read_image
from dscm.data.listing import SHEET
from dscm.data.scaling import to_levels
from dscm.files import atomic_path
from dscm.folder.ledger import Item, Ledger
from dscm.folder.reader import TABLE
from dscm.folder.writer import SHOWN
from dscm.plots.sheets import Row, draw_sheet, to_picture

IMAGES, SAMPLES_SHOWN = "images", 4 * SHOWN


@dataclass(frozen=True)
class Draw:
    """Samples to draw.

    Args:
        n: how many.
        do: the intervention under which all of them are drawn.
        batch: number of images at a time.
        seed: the seed of their noise, which each has for itself by its number.
        query: the intervention as text.
    """

    n: int
    do: Intervention
    batch: int
    seed: int
    query: str = ""


@torch.no_grad()
def write_samples(
    out: Path, scm: SCM, graph: Graph, draw: Draw, command: Mapping[str, Any], overwrite: bool, device: torch.device
) -> dict[str, str]:
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

    Returns:
        The samples that are none, each with the reason.

    Raises:
        InputError: the folder has content that is not of this command.
    """
    folder, names = out / IMAGES, [f"{i:05}.png" for i in range(draw.n)]
    columns = ["image", *(variable.name for variable in graph.attributes)]

    def select(items: Mapping[str, Item]) -> list[str]:
        return [name for name, item in items.items() if item["refused"] or (folder / name).is_file()]

    ledger = Ledger(out, f"{IMAGES}/{TABLE}", columns, command, dict.fromkeys(names, ""), select, overwrite)
    with ledger.going_on(), tqdm(total=draw.n, initial=ledger.earlier, unit="image", desc="samples") as bar:
        for start in range(0, draw.n, draw.batch):
            some = names[start : start + draw.batch]
            if not ledger.finished.keys() >= set(some):
                streams = make_streams(draw.seed, range(start, start + len(some)), device)
                values = scm.sample(len(some), streams, draw.do)
                failed = find_failures(graph.attributes, values)
                rows = _write_pictures(folder, graph, some, values, failed)
                before = len(ledger.finished)
                ledger.add({name: {"sample": failed[i]} if i in failed else {} for i, name in enumerate(some)}, rows)
                bar.update(len(ledger.finished) - before)
    ledger.close()
    shape = cast(Any, scm.mechanism("image")).shape
    _draw(out, graph.name, shape, names, draw.query)
    return {name: reason for name, reasons in ledger.finished.items() for reason in reasons.values()}


def _write_pictures(
    folder: Path, graph: Graph, names: Sequence[str], values: Mapping[str, Tensor], failed: Container[int]
) -> list[list[str]]:
    """Write the pictures of samples, but of those that failed, and return their rows."""
    rows = []
    for i, (name, image) in enumerate(zip(names, to_levels(values["image"]).cpu())):
        if i not in failed:
            with atomic_path(folder / name) as temporary:
                to_picture(image).save(temporary, format="PNG")
            rows.append([name, *(variable.show(values[variable.name][i].item()) for variable in graph.attributes)])
    return rows


def _draw(out: Path, model: str, shape: Sequence[int], names: Sequence[str], query: str) -> None:
    """Draw the contact sheet of the first samples."""
    paths = [path for name in names[:SAMPLES_SHOWN] if (path := out / IMAGES / name).is_file()]
    if not paths:
        return
    shown = torch.stack([read_image(path, shape[-1], shape[0]) for path in paths])
    rows = [Row("", shown[i : i + SHOWN]) for i in range(0, len(shown), SHOWN)]
    title = f"{model}: {len(shown)} of {len(names)} samples" + (f" under do({query})" if query else "")
    draw_sheet(out / SHEET, rows, title)
