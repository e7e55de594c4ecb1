"""CelebAMask-HQ as published: 30,000 faces with 40 attributes and the partition of CelebA."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dscm.data.cache import decode, find_present
from dscm.data.celeba_tables import (
    PARTITION,
    PARTS,
    find_either,
    index_rows,
    look_up,
    read_annotation,
    read_lines,
    read_partition,
)
from dscm.data.framing import STRETCHED, Framing
from dscm.data.images import read_image
from dscm.data.split import Split
from dscm.errors import InputError

FOLDER = "CelebAMask-HQ"
IMAGES = "CelebA-HQ-img"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
ANNOTATION = "CelebAMask-HQ-attribute-anno.txt"
HEADER = ["idx", "orig_idx", "orig_file"]  # of the mapping file


def load(
    data_dir: Path | str,
    split: Split,
    names: Sequence[str],
    size: int,
    cache_dir: Path,
    workers: int = 1,
    skip_missing: bool = False,
    framing: Framing = STRETCHED,
) -> dict[str, Tensor]:
    """Load a split of CelebA-HQ, resized to squares and decoded once.

    Args:
        data_dir: the folder that holds ``CelebAMask-HQ``, or that folder itself; ``list_eval_partition.txt`` lies
            in it or beside it.
        split: ``train``, ``valid`` or ``test``, by CelebA's partition of the original images.
        names: the attributes to load.
        size: height and width in pixels.
        cache_dir: the folder of the decoded images.
        workers: number of processes that decode.
        skip_missing: whether to skip any number of absent or broken images.
        framing: how faces become squares.

    Returns:
        ``image`` uint8 (N, 3, size, size), memory-mapped; ``index`` int64 (N,), the number in the image's name;
        and each attribute int64 (N,), 0 or 1; in the order of the mapping file.

    Raises:
        InputError: a file is missing or damaged, the files disagree, an attribute is unknown, images are absent or
            cannot be decoded, or the split is empty.

    Source: Lee et al. 2020, MaskGAN, https://github.com/switchablenorms/CelebAMask-HQ; the partition is that of
    Liu et al. 2015, CelebA, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
    """
    data_dir = Path(data_dir).absolute()  # so that it has a parent
    folder = data_dir / FOLDER if (data_dir / FOLDER).is_dir() else data_dir
    images, values = _read_split(folder, split, names)
    present = find_present(_find(folder / IMAGES), images, f"{folder / MAPPING}, split {split!r}", skip_missing)
    reader, label = (
        partial(read_image, size=size, channels=3, framing=framing),
        f"celebahq-{split}-{size}{framing.suffix}",
    )
    names_of_files, shape = [images[index] for index in present], (3, size, size)
    image, kept = decode(folder / IMAGES, names_of_files, reader, shape, cache_dir, label, workers, skip_missing)
    present = [present[i] for i in kept]
    columns = zip(*(values[index] for index in present))
    index = torch.tensor([int(Path(images[i]).stem) for i in present])
    return {"image": image, "index": index, **{name: torch.tensor(column) for name, column in zip(names, columns)}}


def _read_split(folder: Path, split: Split, names: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """List the images of a split and the attributes ``names`` of each."""
    mapping_file, annotation_file = _find(folder / MAPPING), _find(folder / ANNOTATION)
    partition_file = _find(folder.parent / PARTITION, folder / PARTITION)
    annotation, mapping = read_annotation(annotation_file, names), _read_mapping(mapping_file)
    partition = read_partition(partition_file)
    parts = [look_up(partition_file, partition, original, MAPPING) for original in mapping.values()]
    images = [image for image, part in zip(mapping, parts) if part == PARTS[split]]
    return images, [look_up(annotation_file, annotation, image, MAPPING) for image in images]


def _find(*candidates: Path) -> Path:
    """Return the first path that exists, or exists as a table with .csv."""
    if path := find_either(*candidates):
        return path
    raise InputError(
        f"{candidates[0]}: no such file or folder; expected are {PARTITION}, {FOLDER}/{MAPPING}, "
        f"{FOLDER}/{ANNOTATION} (or these as .csv) and {FOLDER}/{IMAGES}/0.jpg and so on"
    )


def _read_mapping(path: Path) -> dict[str, str]:
    """Read the original of each image, such as ``119614.jpg`` for ``0.jpg``."""
    rows = read_lines(path)
    if not rows or rows[0].fields != HEADER:
        raise InputError(f"{path}, line 1: the header must be '{' '.join(HEADER)}'")
    for line, fields in rows[1:]:
        if not fields[0].isdecimal():
            raise InputError(f"{path}, line {line}, column 'idx': {fields[0]!r} is not a whole number")
    return {f"{index}.jpg": row.fields[2] for index, row in index_rows(path, rows[1:], len(HEADER)).items()}
