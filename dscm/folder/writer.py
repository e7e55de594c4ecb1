"""Write counterfactuals batch by batch: pictures, a table and a contact sheet."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.variables import write_number
from dscm.data.listing import SHEET
from dscm.data.original import read_original
from dscm.data.scaling import l1, to_levels, to_unit
from dscm.data.sets import DataSet
from dscm.errors import InputError, UnreadableImage, option
from dscm.files import atomic_path
from dscm.folder.ledger import Ledger
from dscm.folder.names import Layout
from dscm.folder.pages import write_page
from dscm.folder.paste import change_mask, paste_into
from dscm.folder.reader import Batch
from dscm.folder.trust import TRUST, tabulate_checks
from dscm.oracle import Oracle, observe
from dscm.plots.sheets import WIDEST, Row, draw_sheet, effect_map, spread_map, to_picture
from dscm.trust.checks import Checks

SHOWN = 12  # images in a row of the contact sheet
TABLE, SPREAD = "counterfactuals.csv", "spread"
STAGES = ("", "counterfactual_", "measured_")  # prefixes of an attribute's columns: before, after, on the picture
Answers = Mapping[str, Mapping[str, Tensor]]  # by the name of a query, the counterfactual value of every variable


class Answered(NamedTuple):
    """What is written of one batch, as `Writer.add` takes it."""

    batch: Batch
    composition: Tensor
    answers: Answers
    refused: Mapping[str, Mapping[str, str]]
    spreads: Mapping[str, Tensor]
    checks: Mapping[str, Checks]


class Writer:
    """Write a PNG for each image and query, ``counterfactuals.csv`` and ``grid.png``, within a ``with`` block.

    Pictures are written while the next batch is being computed, and a batch's rows once its pictures are there. The
    contact sheet shows the first batch of the first process.

    Args:
        ledger: keeps the rows.
        layout: names the pictures.
        data_set: the data set of the model.
        oracle: predicts the attributes that are not measured; None where all are.
        title: the title of the contact sheet.
        originals: the folder of the images, to blend the changes into them; None does not.
        explain: draw a page of every image.
    """

    def __init__(
        self,
        ledger: Ledger,
        layout: Layout,
        data_set: DataSet,
        oracle: Oracle | None,
        title: str,
        originals: Path | None = None,
        explain: bool = False,
    ) -> None:
        self.explain = explain
        self.ledger, self.layout = ledger, layout
        self.data_set, self.graph, self.oracle = data_set, data_set.graph, oracle
        self.title, self.originals = title, originals
        self.drawn = not ledger.machine.first
        self.pool = ThreadPoolExecutor(1)
        self.pending: Future[None] | None = None

    def __enter__(self) -> "Writer":
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what is being written; without an error, put the table in order."""
        with self.pool:
            self._wait()
        if kind is None:
            self.ledger.close()

    def add(
        self,
        index: int,
        batch: Batch,
        composition: Tensor,
        answers: Answers,
        refused: Mapping[str, Mapping[str, str]] = {},
        spreads: Mapping[str, Tensor] = {},
        checks: Mapping[str, Checks] = {},
    ) -> int:
        """Write the counterfactuals of one batch, but of the images that are finished already.

        Args:
            index: the number of the batch; the first one is on the contact sheet.
            batch: the images.
            composition: their images under the null intervention, (B, C, H, W).
            answers: by query, the counterfactual value of every variable, the image among them.
            refused: by image, the queries that it has no answer to, each with the reason.
            spreads: by query, if the ledger has a column for it, the standard deviation of each pixel over particles.
            checks: by query, if the ledger has a table for them, how far to trust the answers.

        Returns:
            The number of images that are not finished yet.
        """
        self._wait()
        done = Answered(batch, composition, answers, refused, spreads, checks)
        tables = {query: self._tabulate(done, query) for query in answers}
        new = [name for name in batch.names if name not in self.ledger.finished]
        asked = {name: [query for query in answers if query not in refused.get(name, {})] for name in new}
        rows = [tables[query][name] for name, queries in asked.items() for query in queries]
        self.pending = self.pool.submit(self._write, index, done, asked, rows)
        return len(new)

    def _wait(self) -> None:
        """Wait for the batch that is being written, and raise its error if there is one."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()

    def _write(
        self, index: int, done: Answered, asked: Mapping[str, Sequence[str]], rows: Sequence[Sequence[str]]
    ) -> None:
        """Write the pictures of a batch, then its rows; an original that cannot be read any more costs no other."""
        batch, composition = done.batch, done.composition
        reasons = {name: dict(done.refused.get(name, {})) for name in batch.names}
        for query, values in done.answers.items():
            doubtful = done.checks[query].doubtful.tolist() if query in done.checks else [False] * len(batch.names)
            for path, name, image, doubt in zip(batch.paths, batch.names, to_levels(values["image"]), doubtful):
                if query in asked.get(name, ()):
                    with atomic_path(self.layout.picture(path, query, doubt)) as temporary:
                        to_picture(image).save(temporary, format="PNG")
            if self.originals:
                for name, reason in self._paste(self.originals, batch, composition, query, values["image"], asked):
                    reasons[name][query] = reason
        whole = [i for i, name in enumerate(batch.names) if not done.refused.get(name)][:SHOWN]
        if whole and not self.drawn and (index == 0 or not (self.layout.out / SHEET).is_file()):
            draw_sheet(self.layout.out / SHEET, list_rows(done, whole), self.title)
            self.drawn = True
        for i, name in enumerate(batch.names) if self.explain else ():
            if asked.get(name):
                self._explain(done, i, asked[name])
        kept = [row for row in rows if row[1] not in reasons[row[0]]]
        answered = {(row[0], row[1]) for row in kept}
        beside = {TRUST: [row for row in self._tabulate_checks(done) if (row[0], row[1]) in answered]}
        self.ledger.add({name: reasons[name] for name in asked}, kept, beside if done.checks else {})

    def _tabulate_checks(self, done: Answered) -> list[list[str]]:
        """Make the rows of the table of checks, image by image, in the order of the queries."""
        columns = self.ledger.beside.get(TRUST, ())
        tables = [tabulate_checks(done.batch.names, query, x, columns) for query, x in done.checks.items()]
        return [row for of_image in zip(*tables) for row in of_image]

    def _explain(self, done: Answered, i: int, queries: Sequence[str]) -> None:
        """Draw the page of one image."""
        path, name = done.batch.paths[i], done.batch.names[i]
        rows = list_rows(done, [i], queries)
        before = {variable.name: done.batch.obs[variable.name][i].item() for variable in self.graph.attributes}
        after = {
            label(query): {v.name: done.answers[query][v.name][i].item() for v in self.graph.attributes}
            for query in queries
        }
        checks = {label(query): done.checks[query] for query in queries}
        pages = self.layout.page(path, ".png"), self.layout.page(path, ".html")
        write_page(pages, name, rows, self.graph, before, after, checks, i)

    def _paste(
        self,
        originals: Path,
        batch: Batch,
        composition: Tensor,
        query: str,
        image: Tensor,
        asked: Mapping[str, Sequence[str]],
    ) -> list[tuple[str, str]]:
        """Write each original, at its own size, depth and opacity, with the changes of a query blended into it.

        Returns:
            The names of the originals that could not be read, each with the reason.
        """
        failed = []
        layers = torch.cat([to_unit(image), change_mask(image, composition)], dim=1).cpu()  # (B, C + 1, H, W)
        for path, name, square in zip(batch.paths, batch.names, layers):
            if query in asked.get(name, ()):
                try:
                    original = read_original(originals / path)
                except UnreadableImage as error:
                    failed.append((name, str(error)))
                    continue
                layer = self.data_set.place_back(square, original.over_black())
                with atomic_path(self.layout.pasted(path, query)) as temporary:
                    original.write(temporary, paste_into(original, layer[:-1], layer[-1:]))
        return failed

    def _tabulate(self, done: Answered, query: str) -> dict[str, list[str]]:
        """Make each image's row: attributes before, after and on the picture, the L1 to the observation, the spread."""
        batch, values, spread = done.batch, done.answers[query], done.spreads.get(query)
        read = done.checks[query].after if query in done.checks else {}
        measured = read or observe(values["image"], self.graph, self.oracle)
        distance = l1(values["image"], batch.obs["image"])
        rows = {}
        for i, name in enumerate(batch.names):
            row = {"image": name, "query": query, "l1": write_number(distance[i].item())}
            if spread is not None:
                row[SPREAD] = write_number(spread[i].mean().item())
            for variable in self.graph.attributes:
                for stage, of_stage in zip(STAGES, (batch.obs, values, measured)):
                    row[f"{stage}{variable.name}"] = variable.show(of_stage[variable.name][i].item())
            rows[name] = [row[column] for column in self.ledger.columns]
        return rows


def list_columns(graph: Graph, particles: int = 1) -> list[str]:
    """List the columns of ``counterfactuals.csv``.

    Raises:
        InputError: there are several particles, and an attribute has the name of the column of their spread.
    """
    names = [variable.name for variable in graph.attributes]
    if particles > 1 and SPREAD in names:
        raise InputError(f"{option('particles')} {particles}: {TABLE} has a column {SPREAD} already, an attribute's")
    spread = [SPREAD] if particles > 1 else []
    return ["image", "query", *(f"{stage}{name}" for stage in STAGES for name in names), "l1", *spread]


def list_rows(done: Answered, some: Sequence[int], queries: Sequence[str] | None = None) -> list[Row]:
    """List the rows of the sheet of some images: observed, composed, and each counterfactual with what it changed.

    Args:
        done: what was answered.
        some: the numbers of the images.
        queries: those that are shown; None is all.
    """
    chosen = list(some)
    rows = [
        Row("observation", to_levels(done.batch.obs["image"][chosen])),
        Row("composition", to_levels(done.composition[chosen])),
    ]
    for query in done.answers if queries is None else queries:
        image = done.answers[query]["image"][chosen]
        marks = [done.checks[query].marks[i] for i in chosen] if query in done.checks else []
        rows.append(Row(label(query), to_levels(image), marks=[found[0] if found else "" for found in marks]))
        rows.append(Row("effect", effect_map(image, done.composition[chosen]), attached=True))
        if query in done.spreads:
            rows.append(Row(SPREAD, spread_map(done.spreads[query][chosen]), attached=True))
    return rows


def describe_particles(particles: int) -> str:
    """Say what the images and colours of a contact sheet of several particles mean."""
    colours = f"red: brighter than the composition; blue: darker; purple: spread, full at {WIDEST:g}"
    return f"Means of {particles} particles; {colours}."


def label(query: str) -> str:
    """Write the name of a query, ``digit=3`` or ``digit=3__direct``, for the contact sheet."""
    text, _, effect = query.rpartition("__")
    return f"do({text}), {effect}" if effect in ("direct", "indirect") else f"do({query})"
