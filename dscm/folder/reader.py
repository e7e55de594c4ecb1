"""Read a folder of images in batches, with their attributes."""

import os
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from dscm.causal.variables import Variable
from dscm.data.attributes import read_attribute_table
from dscm.data.images import UnreadableImage
from dscm.data.listing import list_images, name_image
from dscm.data.pictures import Pictures
from dscm.data.scaling import to_signed
from dscm.data.sets import DataSet
from dscm.data.survey import survey
from dscm.errors import InputError
from dscm.oracle import Oracle, complete, find_faults, list_sources, observe

TABLE = "attributes.csv"
DECODERS = min(8, os.cpu_count() or 1)  # threads that decode files; Pillow's decoders run beside each other
Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Some images.

    Args:
        paths: the B paths of the images, relative to their folder.
        obs: the observation: ``image`` in [-1, 1], (B, C, H, W), and each attribute, (B,).
    """

    paths: list[Path]
    obs: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        """Return the paths as text, with ``/`` between their parts."""
        return [name_image(path) for path in self.paths]


class Reader:
    """Read a folder of images and its ``attributes.csv``; attributes that it lacks are read off the images.

    Args:
        folder: a folder of images.
        data_set: converts an image to the form in which the model sees it.
        shape: the shape of the model's image, (C, H, W).
        oracle: predicts the attributes that are not measured; None where all are.
        device: the device of the batches.
        skip_missing: whether to leave out images without a row in the table, and rows without an image or a value.

    Attributes:
        paths: the paths of the images, relative to the folder.
        names: the paths as text, with ``/`` between their parts.
        attributes: from ``attributes.csv``, each (N,).
        notes: what was left out, or may be a mistake in the table, one line each.
        unreadable: the images that could not be read, or cannot be asked about, each with the reason.

    Raises:
        InputError: there is no such folder, it has no images, or ``attributes.csv`` is wrong.
    """

    def __init__(
        self,
        folder: Path,
        data_set: DataSet,
        shape: tuple[int, int, int],
        oracle: Oracle | None,
        device: torch.device,
        skip_missing: bool = False,
    ) -> None:
        self.folder, self.data_set, self.shape = folder, data_set, shape
        self.oracle, self.device, self.skip_missing = oracle, device, skip_missing
        self.listing = list_images(folder)
        by_name = {name_image(path): path for path in self.listing.images}
        self.names = [*by_name]
        self.attributes: Mapping[str, Tensor] = {}
        self.notes: list[str] = []
        if (folder / TABLE).exists():
            variables = data_set.graph.attributes
            table = read_attribute_table(folder / TABLE, self.names, variables, partial=True, skip_missing=skip_missing)
            self.names, self.attributes, self.notes = table.images, table.values, table.notes
        self.paths = [by_name[name] for name in self.names]
        self.unreadable: dict[Path, str] = {}

    def batches(
        self, size: int, rank: int = 0, world: int = 1, done: Container[str] = ()
    ) -> Iterator[tuple[int, Batch]]:
        """Yield the images of every ``size`` files that can be asked about, each batch with its number.

        A batch of which some images are done is whole, so that the others are computed as they would have been. Files
        are read in the background, several at a time, while the previous batch is in use.

        Args:
            size: number of files in a batch.
            rank, world: this process, which gets every ``world``-th batch, and the number of processes.
            done: the names of images that need not be read again.
        """
        for index, kept, levels in ahead(self._read_batches(size, rank, world, done)):
            x = to_signed(levels.to(self.device, non_blocking=True))
            given = {name: value[kept].to(self.device) for name, value in self.attributes.items()}
            obs = {**complete(x, given, self.data_set.graph, self.oracle), "image": x}
            faults = find_faults(self.data_set.graph, obs, given)
            self.unreadable |= {self.paths[kept[j]]: reason for j, reason in faults.items()}
            good = [j for j in range(len(kept)) if j not in faults]
            if good:
                some = {name: value[good] for name, value in obs.items()}
                yield index, Batch([self.paths[kept[j]] for j in good], some)

    @property
    def sources(self) -> dict[str, list[str]]:
        """List the attributes by where they come from."""
        return list_sources(self.data_set.graph, {f"from {TABLE}": self.attributes})

    def survey(self, paste: bool = False) -> list[str]:
        """Say, in a sentence each, what is passed over in the folder, and what happens to its images.

        Args:
            paste: whether answers are pasted into the images.
        """
        files = [self.folder / path for path in self.paths]
        return self.listing.notes + survey(files, self.data_set.framing, self.shape[0] if paste else None)

    def look_up(self, name: str, attribute: str) -> float:
        """Return the observed value of an attribute of one image.

        Raises:
            InputError: the image cannot be read.
        """
        if attribute in self.attributes:
            return self.attributes[attribute][self.names.index(name)].item()
        try:
            levels = self._read(self.paths[self.names.index(name)])
        except UnreadableImage as error:
            raise InputError(f"{self.folder / name}: {error}") from error
        x = to_signed(levels[None]).to(self.device)
        return observe(x, self.data_set.graph, self.oracle, [attribute])[attribute].item()

    def _read_batches(
        self, size: int, rank: int, world: int, done: Container[str]
    ) -> Iterator[tuple[int, list[int], Tensor]]:
        """Yield the number of each batch, the indices of its images, and their pixels, uint8, pinned for a GPU."""
        with ThreadPoolExecutor(DECODERS) as pool:
            for start in range(rank * size, len(self.paths), world * size):
                part = range(start, min(start + size, len(self.paths)))
                images = self._read_all(pool, (i for i in part if self.names[i] not in done))
                if images:
                    images |= self._read_all(pool, (i for i in part if self.names[i] in done))
                    kept = sorted(images)
                    levels = torch.stack([images[i] for i in kept])
                    yield start // size, kept, levels.pin_memory() if self.device.type == "cuda" else levels

    def _read_all(self, pool: Executor, indices: Iterable[int]) -> dict[int, Tensor]:
        """Read images, and note those that are unreadable."""
        pending = {i: pool.submit(self._read, self.paths[i]) for i in indices}
        images = {}
        for i, future in pending.items():
            try:
                images[i] = future.result()
            except UnreadableImage as error:
                self.unreadable[self.paths[i]] = str(error)
        return images

    def _read(self, path: Path) -> Tensor:
        """Read one image, uint8 (C, H, W)."""
        return self.data_set.read(self.folder / path, self.shape)


def join_table(
    pictures: Pictures, variables: Sequence[Variable], skip_missing: bool
) -> tuple[Pictures, Mapping[str, Tensor]]:
    """Read the table of a folder whose images are read already.

    Args:
        pictures: the images.
        variables: the attributes to read.
        skip_missing: whether to leave out images without a row or a value, and rows without an image, with a line on
            standard error.

    Returns:
        The images that are left, and the attributes that the table has, each (N,); none if there is no table.

    Raises:
        InputError: as for `read_attribute_table`.
    """
    if pictures.folder is None or not (pictures.folder / TABLE).exists():
        return pictures, {}
    path = pictures.folder / TABLE
    table = read_attribute_table(path, pictures.names, variables, partial=True, skip_missing=skip_missing)
    for note in table.notes:
        print(note, file=sys.stderr)
    left = {*table.images}
    kept = torch.tensor([name in left for name in pictures.names])
    return replace(pictures, names=table.images, levels=pictures.levels[kept]), table.values


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of an iterator, each computed in the background while the previous one is in use."""
    done = object()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, done)
        while (item := pending.result()) is not done:
            pending = pool.submit(next, items, done)
            yield cast(Item, item)
