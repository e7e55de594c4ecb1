"""Write the answers to queries about a folder of images as they come: pictures, a table, a contact sheet."""

import csv
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from PIL import Image
from torch import Tensor

from dscm.data.images import read_pixels
from dscm.data.mammogram import Framing
from dscm.data.scaling import to_levels, to_unit
from dscm.data.sets import place_back
from dscm.plots.sheets import Row, draw_sheet, effect_map, to_picture
from dscm.files import atomic_path
from dscm.causal.graph import Graph
from dscm.evaluation.metrics import l1, observe
from dscm.oracle import Oracle
from dscm.folder.paste import change_mask, paste
from dscm.machine import wait

SHOWN = 12  # images on the contact sheet
TABLE, SHEET, PASTED = "counterfactuals.csv", "grid.png", "pasted"


@dataclass(frozen=True)
class Batch:
    """Images that could be read: their paths, and the observation (image in [-1, 1] and attributes)."""

    paths: list[Path]
    obs: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        """Return the paths as text, with ``/`` between their parts."""
        return [path.as_posix() for path in self.paths]


class AnswerWriter:
    """Write a PNG for each image and query, ``counterfactuals.csv`` and ``grid.png``; use it in a ``with`` block.

    The table and the contact sheet are there, whole, when the block ends well. Several processes may share the batches
    out, in turns: each keeps the rows of its own, and the first puts them together.

    Args:
        out: the folder to write.
        images: the folder of the images.
        paths: of all images, relative to that folder.
        graph: the causal graph.
        oracle: predicts what is not measured.
        framing: how the model's mammograms were brought to a square; None pastes nothing into the images.
        title: of the contact sheet.
        rank, world: this process and how many there are.
    """

    def __init__(
        self,
        out: Path,
        images: Path,
        paths: Sequence[Path],
        graph: Graph,
        oracle: Oracle,
        framing: Framing | None,
        title: str,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.rank, self.world = rank, world
        self.out, self.images, self.graph, self.oracle = out, images, graph, oracle
        self.framing, self.title = framing, title
        self.names = name_outputs(paths)
        self.rows: list[Row] = []
        self.pool = ThreadPoolExecutor(1)
        self.pending: Future | None = None

    def __enter__(self) -> "AnswerWriter":
        """Begin the rows of this process."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.file = self._part(self.rank).open("w", newline="", encoding="utf-8")
        self.table = csv.writer(self.file, lineterminator="\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the table together and draw the contact sheet."""
        self.file.close()
        try:
            with self.pool:
                self._finish()
            if kind is None:
                wait(self.world)
                if self.rank == 0:
                    self._merge()
                wait(self.world)
            if kind is None and self.rows:
                draw_sheet(self.out / SHEET, self.rows, self.title)
        finally:
            self._part(self.rank).unlink()

    def add(self, index: int, batch: Batch, composed: Tensor, answers: dict[str, dict[str, Tensor]]) -> None:
        """Write the answers about one batch.

        Args:
            index: its number; those of a process rise.
            batch: the images.
            composed: their compositions, (B, C, H, W).
            answers: by the text of each query, every variable under it, the image among them.
        """
        self._finish()
        self.pending = self.pool.submit(self._write_pictures, batch, composed, answers)
        for query, answer in answers.items():
            self.table.writerows([index, *row] for row in self._describe(batch, query, answer))
        if self.rank == 0 and not self.rows:
            some = slice(0, SHOWN)
            self.rows = [Row("observation", to_levels(batch.obs["image"][some]))]
            self.rows.append(Row("composition", to_levels(composed[some])))
            for query, answer in answers.items():
                self.rows.append(Row(label(query), to_levels(answer["image"][some])))
                self.rows.append(Row("effect", effect_map(answer["image"][some], composed[some]), attached=True))

    def _write_pictures(self, batch: Batch, composed: Tensor, answers: dict[str, dict[str, Tensor]]) -> None:
        """Write the pictures of one batch, while the next is being computed."""
        for query, answer in answers.items():
            for path, image in zip(batch.paths, to_levels(answer["image"])):
                name = self.names[path]
                with atomic_path(self.out / name.with_name(f"{name.name}__{query}.png")) as temporary:
                    to_picture(image).save(temporary, format="PNG")
            if self.framing:
                self._paste(batch, composed, query, answer["image"])

    def _finish(self) -> None:
        """Wait for the pictures that are being written, and raise what went wrong with them."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()

    def _part(self, rank: int) -> Path:
        """Name the file of the rows of one process, each after the number of its batch."""
        return self.out / f".{TABLE}.{rank}"

    def _merge(self) -> None:
        """Write the rows of all processes as one table, in the order of the batches."""
        with ExitStack() as files:
            temporary = files.enter_context(atomic_path(self.out / TABLE))
            whole = csv.writer(
                files.enter_context(temporary.open("w", newline="", encoding="utf-8")), lineterminator="\n"
            )
            whole.writerow(list_columns(self.graph))
            parts = [files.enter_context(self._part(r).open(newline="", encoding="utf-8")) for r in range(self.world)]
            for _, *row in heapq.merge(*map(csv.reader, parts), key=lambda row: int(row[0])):
                whole.writerow(row)

    def _paste(self, batch: Batch, composed: Tensor, query: str, answer: Tensor) -> None:
        """Write, at the size and depth of each image, the image with what the query changed blended into it."""
        layers = torch.cat([to_unit(answer), change_mask(answer, composed)], dim=1).cpu()  # (B, C + 1, H, W)
        for path, square in zip(batch.paths, layers):
            pixels = read_pixels(self.images / path)
            layer = place_back(self.graph, square, pixels, self.framing)
            name = self.names[path]
            with atomic_path(self.out / PASTED / query / name.with_name(f"{name.name}.png")) as temporary:
                Image.fromarray(paste(pixels, layer[:-1], layer[-1:])).save(temporary, format="PNG")

    def _describe(self, batch: Batch, query: str, answer: dict[str, Tensor]) -> Iterator[list[str]]:
        """Yield the table's row of each image: attributes before, after, as measured, and the L1 to the factual."""
        measured = observe(answer["image"], self.graph, self.oracle)
        distance = l1(answer["image"], batch.obs["image"])
        for i, name in enumerate(batch.names):
            row = {"image": name, "query": query, "l1": f"{distance[i].item():.5f}"}
            for variable in self.graph.attributes:
                for kind, values in (("", batch.obs), ("counterfactual_", answer), ("measured_", measured)):
                    row[f"{kind}{variable.name}"] = variable.show(values[variable.name][i].item())
            yield [row[column] for column in list_columns(self.graph)]


def list_columns(graph: Graph) -> list[str]:
    """List the columns of ``counterfactuals.csv``."""
    names = [variable.name for variable in graph.attributes]
    kinds = [f"{kind}{name}" for kind in ("", "counterfactual_", "measured_") for name in names]
    return ["image", "query", *kinds, "l1"]


def name_outputs(paths: Sequence[Path]) -> dict[Path, Path]:
    """Name each image's outputs by its path without the ending, which is kept where two would collide."""
    count = Counter(path.with_suffix("") for path in paths)
    names = {path: path if count[path.with_suffix("")] > 1 else path.with_suffix("") for path in paths}
    return names if len(set(names.values())) == len(paths) else {path: path for path in paths}


def label(query: str) -> str:
    """Write the name of a query, ``digit=3`` or ``digit=3__direct``, as a picture's caption."""
    text, _, path = query.rpartition("__")
    return f"do({text}), {path}" if path in ("direct", "indirect") else f"do({query})"
