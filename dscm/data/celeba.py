"""CelebA as published: 202,599 aligned faces with 40 attributes, a partition and identities."""

from collections.abc import Mapping, Sequence
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
from dscm.data.framing import Framing
from dscm.data.images import read_image
from dscm.data.split import Split
from dscm.errors import InputError

IMAGES = "img_align_celeba"
ANNOTATION = "list_attr_celeba.txt"
IDENTITIES = "identity_CelebA.txt"
PLACES = ("", "Anno", "Eval", "Img")  # folders of the release; copies have everything in one
ANCHOR = (0.75, 0.5)  # of the square in an aligned face: rows 30 to 208 of 218, all columns
ALIGNED = Framing("crop", anchor=ANCHOR)


def load(
    data_dir: Path | str,
    split: Split,
    names: Sequence[str],
    size: int,
    cache_dir: Path,
    workers: int = 1,
    skip_missing: bool = False,
    framing: Framing = ALIGNED,
) -> dict[str, Tensor]:
    """Load a split of CelebA, made square and decoded once.

    Args:
        data_dir: the folder of ``img_align_celeba`` (at any scale), ``list_attr_celeba.txt``,
            ``list_eval_partition.txt`` and, unless it is lost, ``identity_CelebA.txt``; or of ``Anno``, ``Eval`` and
            ``Img`` with these. Tables may be ``.csv``, as Kaggle has them.
        split: ``train``, ``valid`` or ``test``, by the partition.
        names: the attributes to load.
        size: height and width in pixels.
        cache_dir: the folder of the decoded images.
        workers: number of processes that decode.
        skip_missing: whether to skip any number of absent or broken images.
        framing: how faces become squares.

    Returns:
        ``image`` uint8 (N, 3, size, size), memory-mapped; ``index`` int64 (N,), the number in the image's name; each
        attribute int64 (N,), 0 or 1; and, where it is known, ``identity`` int64 (N,), the number of the person; in the
        order of the table of attributes.

    Raises:
        InputError: a file is missing or damaged, the files disagree, an attribute is unknown, a person is in two
            splits, images are absent or cannot be decoded, or the split is empty.

    Source: Liu et al. 2015, Deep Learning Face Attributes in the Wild,
    https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
    """
    folder = Path(data_dir)
    values, people = _read_split(folder, split, names)
    root, source = _find(folder, IMAGES), f"{_find(folder, ANNOTATION)}, split {split!r}"
    root = root / IMAGES if (root / IMAGES).is_dir() else root  # as Kaggle's archive has it
    listed = [*values]
    files = [listed[i] for i in find_present(root, listed, source, skip_missing)]
    reader = partial(read_image, size=size, channels=3, framing=framing)
    label = f"celeba-{split}-{size}-{framing.name}"
    image, kept = decode(root, files, reader, (3, size, size), cache_dir, label, workers, skip_missing)
    files = [files[i] for i in kept]
    data: dict[str, Tensor] = {"image": image, "index": torch.tensor([int(Path(file).stem) for file in files])}
    data |= {name: torch.tensor(column) for name, column in zip(names, zip(*(values[file] for file in files)))}
    return data | ({"identity": torch.tensor([people[file] for file in files])} if people else {})


def _read_split(folder: Path, split: Split, names: Sequence[str]) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Read the attributes ``names`` of each image of a split, in order, and the person of every image, if known."""
    annotation_file, partition_file = _find(folder, ANNOTATION), _find(folder, PARTITION)
    values, partition = read_annotation(annotation_file, names), read_partition(partition_file)
    for image in values:
        if not Path(image).stem.isdecimal():
            raise InputError(f"{annotation_file}: image {image!r} is no number, as 000001.jpg is")
    parts = {image: look_up(partition_file, partition, image, ANNOTATION) for image in values}
    people = _read_identities(folder, parts)
    return {image: value for image, value in values.items() if parts[image] == PARTS[split]}, people


def _find(folder: Path, name: str) -> Path:
    """Return a file or folder of the release."""
    if path := find_either(*(folder / place / name for place in PLACES)):
        return path
    raise InputError(
        f"{folder / name}: no such file or folder; expected are {IMAGES}/000001.jpg and so on, {ANNOTATION} and "
        f"{PARTITION} (or these as .csv)"
    )


def _read_identities(folder: Path, parts: Mapping[str, str]) -> dict[str, int]:
    """Read the person of each image; empty if the file is absent, as from Kaggle's copy.

    Args:
        folder: the folder of the data set.
        parts: the part of each image.
    """
    path = find_either(*(folder / place / IDENTITIES for place in PLACES))
    if path is None:
        return {}
    lines = read_lines(path)
    headed = bool(lines) and not lines[0].fields[-1].isdecimal()
    rows = index_rows(path, lines[headed:], 2)
    first: dict[str, tuple[str, str]] = {}
    for image, part in parts.items():
        line, (_, person) = look_up(path, rows, image, ANNOTATION)
        if not person.isdecimal():
            raise InputError(f"{path}, line {line}: person {person!r} is not a whole number")
        other, earlier = first.setdefault(person, (part, image))
        if part != other:
            raise InputError(
                f"{path}, line {line}: person {person} is in part {part} of {PARTITION}, but in {other} as {earlier}"
            )
    return {image: int(rows[image].fields[1]) for image in parts}
