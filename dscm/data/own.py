"""The user's own data: a folder of images with their attributes in attributes.csv."""

import hashlib
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.data.attributes import Attributes, read_attribute_table
from dscm.data.cache import decode
from dscm.data.framing import STRETCHED, Framing
from dscm.data.group import GROUP, read_groups
from dscm.data.images import read_image
from dscm.data.listing import find_images
from dscm.data.split import Split
from dscm.data.table import read_labels
from dscm.errors import EmptySplit

ATTRIBUTES = "attributes.csv"
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
TEST_FRACTION = 0.1  # of the images, if the table has no column ``split``
VALID_FRACTION = 0.1  # of the others, likewise


def load(
    folder: Path,
    graph: Graph,
    split: Split,
    size: int,
    cache_dir: Path,
    workers: int = 1,
    skip_missing: bool = False,
    framing: Framing = STRETCHED,
) -> dict[str, Tensor]:
    """Load a split of a folder of images, resized to squares and decoded once.

    Args:
        folder: the folder of the images, in sub-folders too, and of ``attributes.csv``. That table has a column
            ``image``, one for each attribute of the graph, and optionally ``split`` with ``train``, ``valid`` or
            ``test``, and ``group``, equal where images show the same thing, which ``split`` should keep together.
        graph: the causal graph.
        split: ``train``, ``valid`` or ``test``; without a column ``split``, a tenth of the images, by a hash, are for
            testing, and a tenth of the others for validation.
        size: height and width in pixels.
        cache_dir, workers: the folder of the decoded images, and the number of processes that decode.
        skip_missing: whether to leave out, with a line on standard error, images without a row, rows without an
            image, rows with an empty cell, and broken images.
        framing: how images become squares.

    Returns:
        ``image`` uint8 (N, C, size, size), memory-mapped; ``index`` int64 (N,), the position of each image among all
        sorted paths; each attribute (N,); and ``group`` int64 (N,), where there is such a column.

    Raises:
        EmptySplit: the split has no images.
        InputError: as for `find_images`, `read_attribute_table` and `decode`.
    """
    images = [path.as_posix() for path in find_images(folder)]
    table = read_attribute_table(folder / ATTRIBUTES, images, graph.attributes, skip_missing=skip_missing)
    for note in table.notes:
        print(note, file=sys.stderr)
    chosen = [i for i, part in enumerate(_read_splits(table)) if part == split]
    if not chosen:
        raise EmptySplit(f"{folder / ATTRIBUTES}, split {split!r}: no images; a column 'split' may mark some")
    names, channels = [table.images[i] for i in chosen], graph.image_channels
    reader = partial(read_image, size=size, channels=channels, framing=framing)
    label = f"folder-{split}-{size}-{channels}{framing.suffix}"
    image, kept = decode(folder, names, reader, (channels, size, size), cache_dir, label, workers, skip_missing)
    place = {image: i for i, image in enumerate(images)}
    index = torch.tensor([place[names[i]] for i in kept])
    rows = [chosen[i] for i in kept]
    data = {"image": image, "index": index, **{name: value[rows] for name, value in table.values.items()}}
    column = table.table.find(GROUP)
    return {GROUP: read_groups([table.rows[i] for i in rows], column), **data} if column else data


def assign_split(image: str) -> Split:
    """Assign an image to a split by a hash of its path, uniform in [0, 1), independently of the other images."""
    digest = hashlib.sha256(image.encode(errors="surrogateescape")).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < TEST_FRACTION:
        return "test"
    return "valid" if point < TEST_FRACTION + VALID_FRACTION * (1 - TEST_FRACTION) else "train"


def _read_splits(attributes: Attributes) -> list[Split]:
    """Return the split of every image."""
    table = attributes.table
    column = table.find("split")
    if column is None:
        return [assign_split(image) for image in attributes.images]
    return [SPLITS[i] for i in read_labels(table.path, attributes.rows, column, SPLITS)]
