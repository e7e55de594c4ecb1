"""Every data set behind one call: what a graph's images and attributes are read or made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from dscm.data import embed, mammogram
from dscm.data import celeba as celebahq
from dscm.data import own as labelled
from dscm.data.morphomnist import dataset as morphomnist
from dscm.data.images import fit, read_pixels
from dscm.data.mammogram import Framing
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.causal.graph_file import GRAPHS

Split = Literal["train", "test"]
DIGIT_SIZE = 28


@dataclass(frozen=True)
class Source:
    """Say where a data set lies and how it is read.

    Args:
        data_dir: its folder; None downloads MNIST, the only set that can be.
        cache_dir: where decoded and generated images are kept.
        csv: EMBED's one or two CSV files; by default those at the top of the folder.
        framing: how mammograms are brought to a square.
        skip_missing: leave out rows that name absent images, however many.
        workers: processes that decode or generate.
    """

    data_dir: Path | None
    cache_dir: Path
    csv: tuple[Path, ...] = ()
    framing: Framing = Framing()
    skip_missing: bool = False
    workers: int = 1

    def folder(self, graph: Graph) -> Path:
        """Return the folder, which every set but MNIST needs.

        Raises:
            InputError: none was given.
        """
        if self.data_dir is None:
            raise InputError(f"--data {graph.name}: give the folder of the data set with --data-dir")
        return self.data_dir


def read_file(graph: Graph, path: Path, shape: tuple[int, int, int], framing: Framing = Framing()) -> Tensor:
    """Read one image of a user as the loader of the graph's data set would.

    Args:
        graph: the causal graph.
        path: the file.
        shape: what the model takes, (C, H, W).
        framing: how the model's mammograms were brought to a square.

    Returns:
        uint8 of ``shape``.

    Raises:
        UnreadableImage: the file cannot be used.
    """
    return fit_pixels(graph, read_pixels(path), shape, framing)


def fit_pixels(graph: Graph, pixels: np.ndarray, shape: tuple[int, int, int], framing: Framing = Framing()) -> Tensor:
    """Bring an image to the form that models see.

    Args:
        graph, shape, framing: as in `read_file`.
        pixels: unsigned integers, (H, W) or (H, W, 3).

    Returns:
        uint8 of ``shape``.
    """
    channels, size, _ = shape
    if graph.data_set == "embed":
        return mammogram.prepare(mammogram.to_grey(pixels), size, framing)
    return fit(pixels, size, channels)


def place_back(graph: Graph, square: Tensor, pixels: np.ndarray, framing: Framing = Framing()) -> Tensor:
    """Lay a model's square over the image that it was read from.

    Args:
        graph, framing: as in `read_file`.
        square: float (C, size, size), an image or something of each of its pixels.
        pixels: the image's file, as `read_pixels` returns it, (H, W) or (H, W, 3).

    Returns:
        float (C, H, W).
    """
    if graph.data_set == "embed":
        return mammogram.place_back(square, mammogram.to_grey(pixels), framing)
    return F.interpolate(square[None], pixels.shape[:2], mode="bicubic", antialias=True)[0]


def load(graph: Graph, source: Source, split: Split, size: int) -> dict[str, Tensor]:
    """Load a split of the data set that belongs to a graph.

    Args:
        graph: the causal graph.
        source: where the data lie.
        split: ``train`` or ``test``.
        size: height and width of the images in pixels; digits are always 28.

    Returns:
        ``image`` uint8 (N, C, size, size) and one tensor (N,) for each attribute; for digits also ``base``, their
        drawings, for the other sets ``index``, the number of each image in its set.

    Raises:
        InputError: what the data set's own loader raises, or another size of digits is asked for.
    """
    names = [variable.name for variable in graph.attributes]
    if graph.data_set == "celebahq":
        folder = source.folder(graph)
        return celebahq.load(folder, split, names, size, source.cache_dir, source.workers, source.skip_missing)
    if graph.data_set == "embed":
        folder = source.folder(graph)
        return embed.load(
            folder,
            source.csv or sorted(folder.glob("*.csv")),
            split,
            names,
            size,
            source.cache_dir,
            source.workers,
            framing=source.framing,
            skip_missing=source.skip_missing,
        )
    if graph.data_set == "folder":
        return labelled.load(source.folder(graph), graph, split, size, source.cache_dir, source.workers)
    if size != DIGIT_SIZE:
        raise InputError(f"--size {size}: digits are {DIGIT_SIZE} pixels a side")
    part: morphomnist.Split = "train" if split == "train" else "t10k"
    return morphomnist.load(_equations_of(graph), source.data_dir, part, source.cache_dir, source.workers)


def _equations_of(graph: Graph) -> Graph:
    """Return the built-in graph that digits are drawn by, where a user's own graph of them leaves equations open."""
    if not graph.learned:
        return graph
    names = {variable.name for variable in graph.attributes}
    for known in GRAPHS.values():
        if known.data_set == graph.data_set and {variable.name for variable in known.attributes} == names:
            return known
    raise InputError(f"graph '{graph.name}': no digits are drawn with the attributes {', '.join(sorted(names))}")
