"""A user's own data set: a folder of images, and attributes.csv beside them."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dscm.data.cache import decode
from dscm.data.images import find_images, read_image
from dscm.data.given import read_given
from dscm.data.table import read_csv
from dscm.errors import InputError
from dscm.causal.graph import Graph

ATTRIBUTES = "attributes.csv"
Split = Literal["train", "test"]
TEST_SHARE = 0.1  # of the images, where the file has no column "split"


def load(folder: Path, graph: Graph, split: Split, size: int, cache_dir: Path, workers: int = 1) -> dict[str, Tensor]:
    """Load a split of a folder of images: all resized to a square, decoded once.

    Args:
        folder: of the images, sub-folders included, and of ``attributes.csv``: a column ``image``, one for each
            attribute of the graph, and perhaps ``split``, which says train or test.
        graph: the causal graph.
        split: ``train`` or ``test``; without that column a tenth of the images, by their paths, are for testing.
        size: height and width in pixels.
        cache_dir: where the decoded images are kept.
        workers: processes that decode.

    Returns:
        ``image`` uint8 (N, C, size, size), memory-mapped; ``index`` int64 (N,), the place of each image among all by
        path; and each attribute (N,).

    Raises:
        InputError: as `find_images`, `read_given` and `decode`, or the split is empty.
    """
    images = [path.as_posix() for path in find_images(folder)]
    values = read_given(folder / ATTRIBUTES, images, graph.attributes)
    own = [i for i, part in enumerate(_read_splits(folder / ATTRIBUTES, images)) if part == split]
    if not own:
        raise InputError(f"{folder / ATTRIBUTES}, split {split!r}: no images")
    channels = graph.image_channels
    image = decode(
        folder,
        [images[i] for i in own],
        partial(read_image, size=size, channels=channels),
        (channels, size, size),
        cache_dir,
        f"folder-{split}-{size}-{channels}",
        workers,
    )
    return {"image": image, "index": torch.tensor(own), **{name: column[own] for name, column in values.items()}}


def assign_split(image: str) -> Split:
    """Assign an image to a split, whatever the other images are: by a hash of its path that is uniform in [0, 1)."""
    digest = hashlib.sha256(image.encode(errors="surrogateescape")).digest()
    return "test" if int.from_bytes(digest[:8], "big") / 2**64 < TEST_SHARE else "train"


def _read_splits(path: Path, images: list[str]) -> list[str]:
    """Return the split of every image."""
    columns, rows = read_csv(path)
    if "split" not in columns:
        return [assign_split(image) for image in images]
    parts = {}
    for line, cells in rows:
        if cells["split"] not in ("train", "test"):
            raise InputError(f"{path}, line {line}, column 'split': {cells['split']!r}; allowed: train, test")
        parts[cells["image"]] = cells["split"]
    return [parts[image] for image in images]
