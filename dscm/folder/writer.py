"""Write counterfactuals and samples batch by batch: pictures, a table and a contact sheet."""

import csv
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dscm.causal.graph import Graph
from dscm.causal.scm import SCM
from dscm.causal.values import find_failures, refuse
from dscm.causal.variables import write_number
from dscm.data.images import read_pixels
from dscm.data.scaling import l1, to_levels, to_unit
from dscm.data.sets import DataSet
from dscm.data.table import write_csv
from dscm.files import atomic_path
from dscm.folder.paste import change_mask, paste
from dscm.folder.reader import TABLE as ATTRIBUTES
from dscm.folder.reader import Batch
from dscm.machine import Machine, wait
from dscm.oracle import Oracle, observe
from dscm.plots.sheets import Row, draw_sheet, effect_map, to_picture

SHOWN = 12  # images in a row of the contact sheet
SAMPLES, SAMPLES_SHOWN = "images", 4 * SHOWN
TABLE, SHEET, PASTED = "counterfactuals.csv", "grid.png", "pasted"
STAGES = ("", "counterfactual_", "measured_")  # prefixes of an attribute's columns: before, after, on the picture
Answers = Mapping[str, Mapping[str, Tensor]]  # by the name of a query, the counterfactual value of every variable


class Writer:
    """Write a PNG for each image and query, ``counterfactuals.csv`` and ``grid.png``, within a ``with`` block.

    Table and contact sheet appear, whole, when the block ends without an error. Several processes may share the
    batches: each keeps the rows of its own, and the first process merges them.

    Args:
        out: the folder to write.
        paths: the relative paths of all images, which name their pictures.
        data_set: the data set of the model.
        oracle: predicts the attributes that are not measured; None where all are.
        title: the title of the contact sheet.
        originals: the folder of the images, to blend the changes into them; None does not.
        machine: this process; None is the only one.
    """

    def __init__(
        self,
        out: Path,
        paths: Sequence[Path],
        data_set: DataSet,
        oracle: Oracle | None,
        title: str,
        originals: Path | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.out, self.data_set, self.graph, self.oracle = out, data_set, data_set.graph, oracle
        self.title, self.originals = title, originals
        self.machine = machine or Machine(torch.device("cpu"))
        self.pictures = name_pictures(paths)
        self.sheet: list[Row] = []
        self.pool = ThreadPoolExecutor(1)
        self.pending: Future[None] | None = None

    def __enter__(self) -> "Writer":
        """Open the file of this process's rows."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.file = self._share(self.machine.rank).open("w", newline="", encoding="utf-8")
        self.rows = csv.writer(self.file, lineterminator="\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Merge the rows of all processes and draw the contact sheet."""
        self.file.close()
        try:
            with self.pool:
                self._finish_pictures()
            if kind is None:
                wait(self.machine)
                if self.machine.first:
                    self._merge()
                wait(self.machine)
            if kind is None and self.sheet:
                draw_sheet(self.out / SHEET, self.sheet, self.title)
        finally:
            self._share(self.machine.rank).unlink()

    def add(self, index: int, batch: Batch, composition: Tensor, answers: Answers) -> None:
        """Write the counterfactuals of one batch.

        Args:
            index: the number of the batch; in each process these rise.
            batch: the images.
            composition: their images under the null intervention, (B, C, H, W).
            answers: by the name of each query, the counterfactual value of every variable, the image among them.
        """
        self._finish_pictures()
        self.pending = self.pool.submit(self._write_pictures, batch, composition, answers)
        for query, values in answers.items():
            self.rows.writerows([index, *row] for row in self._tabulate(batch, query, values))
        if self.machine.first and not self.sheet:
            some = slice(0, SHOWN)
            self.sheet = [Row("observation", to_levels(batch.obs["image"][some]))]
            self.sheet.append(Row("composition", to_levels(composition[some])))
            for query, values in answers.items():
                self.sheet.append(Row(label(query), to_levels(values["image"][some])))
                self.sheet.append(Row("effect", effect_map(values["image"][some], composition[some]), attached=True))

    def _write_pictures(self, batch: Batch, composition: Tensor, answers: Answers) -> None:
        """Write the pictures of one batch, while the next one is being computed."""
        for query, values in answers.items():
            for path, image in zip(batch.paths, to_levels(values["image"])):
                name = self.pictures[path]
                with atomic_path(self.out / name.with_name(f"{name.name}__{query}.png")) as temporary:
                    to_picture(image).save(temporary, format="PNG")
            if self.originals:
                self._paste(self.originals, batch, composition, query, values["image"])

    def _finish_pictures(self) -> None:
        """Wait for the pictures that are being written, and raise their error if there is one."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()

    def _paste(self, originals: Path, batch: Batch, composition: Tensor, query: str, image: Tensor) -> None:
        """Write each original, at its own size and depth, with the changes of a query blended into it."""
        layers = torch.cat([to_unit(image), change_mask(image, composition)], dim=1).cpu()  # (B, C + 1, H, W)
        for path, square in zip(batch.paths, layers):
            pixels = read_pixels(originals / path)
            layer = self.data_set.place_back(square, pixels)
            name = self.pictures[path]
            with atomic_path(self.out / PASTED / query / name.with_name(f"{name.name}.png")) as temporary:
                Image.fromarray(paste(pixels, layer[:-1], layer[-1:])).save(temporary, format="PNG")

    def _tabulate(self, batch: Batch, query: str, values: Mapping[str, Tensor]) -> Iterator[list[str]]:
        """Yield each image's row: attributes before, after and on the picture, and the L1 to the observation."""
        measured = observe(values["image"], self.graph, self.oracle)
        distance = l1(values["image"], batch.obs["image"])
        for i, name in enumerate(batch.names):
            row = {"image": name, "query": query, "l1": write_number(distance[i].item())}
            for variable in self.graph.attributes:
                for stage, of_stage in zip(STAGES, (batch.obs, values, measured)):
                    row[f"{stage}{variable.name}"] = variable.show(of_stage[variable.name][i].item())
            yield [row[column] for column in list_columns(self.graph)]

    def _share(self, rank: int) -> Path:
        """Name the file of the rows of one process, each of which begins with the number of its batch."""
        return self.out / f".{TABLE}.{rank}"

    def _merge(self) -> None:
        """Write the rows of all processes as one table, in the order of the batches."""
        with ExitStack() as files:
            temporary = files.enter_context(atomic_path(self.out / TABLE))
            whole = csv.writer(
                files.enter_context(temporary.open("w", newline="", encoding="utf-8")), lineterminator="\n"
            )
            whole.writerow(list_columns(self.graph))
            shares = [self._share(rank) for rank in range(self.machine.world)]
            opened = [files.enter_context(share.open(newline="", encoding="utf-8")) for share in shares]
            for _, *row in heapq.merge(*map(csv.reader, opened), key=lambda row: int(row[0])):
                whole.writerow(row)


def list_columns(graph: Graph) -> list[str]:
    """List the columns of ``counterfactuals.csv``."""
    names = [variable.name for variable in graph.attributes]
    return ["image", "query", *(f"{stage}{name}" for stage in STAGES for name in names), "l1"]


def name_pictures(paths: Sequence[Path]) -> dict[Path, Path]:
    """Name each image's pictures by its path without the suffix, which is kept where two names would collide."""
    count = Counter(path.with_suffix("") for path in paths)
    names = {path: path if count[path.with_suffix("")] > 1 else path.with_suffix("") for path in paths}
    return names if len(set(names.values())) == len(paths) else {path: path for path in paths}


def label(query: str) -> str:
    """Write the name of a query, ``digit=3`` or ``digit=3__direct``, for the contact sheet."""
    text, _, effect = query.rpartition("__")
    return f"do({text}), {effect}" if effect in ("direct", "indirect") else f"do({query})"


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
            refuse(find_failures(graph.attributes, values))
            images = to_levels(values["image"]).cpu()
            for i, image in enumerate(images, start):
                with atomic_path(out / SAMPLES / f"{i:05}.png") as temporary:
                    to_picture(image).save(temporary, format="PNG")
                table["image"].append(f"{i:05}.png")
            for variable in graph.attributes:
                table[variable.name] += [variable.show(value) for value in values[variable.name].tolist()]
            shown += list(images[: SAMPLES_SHOWN - len(shown)])
            bar.update(len(images))
    write_csv(out / SAMPLES / ATTRIBUTES, table)
    rows = [Row("", torch.stack(shown[i : i + SHOWN])) for i in range(0, len(shown), SHOWN)]
    values_set = ", ".join(f"{name}={value:g}" for name, value in do.items())
    title = f"{graph.name}: {len(shown)} of {n} samples" + (f" under do({values_set})" if do else "")
    draw_sheet(out / SHEET, rows, title)
