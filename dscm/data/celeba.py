"""CelebAMask-HQ as published: 30,000 faces with 40 attributes and the partition of CelebA."""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from dscm.data.cache import decode, find_present
from dscm.data.delimited import read_text
from dscm.data.framing import STRETCHED, Framing
from dscm.data.images import read_image
from dscm.errors import InputError

Split = Literal["train", "valid", "test"]
Value = TypeVar("Value")
PARTS = {"train": "0", "valid": "1", "test": "2"}  # codes of the partition file
FOLDER = "CelebAMask-HQ"
IMAGES = "CelebA-HQ-img"
PARTITION = "list_eval_partition.txt"  # as published; copies have tables of the same names with .csv
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
ANNOTATION = "CelebAMask-HQ-attribute-anno.txt"
HEADER = ["idx", "orig_idx", "orig_file"]  # of the mapping file


class Line(NamedTuple):
    """One line of a file: its number and its fields."""

    line: int
    fields: list[str]


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
    annotation, mapping = _read_annotation(annotation_file, names), _read_mapping(mapping_file)
    partition = _read_partition(partition_file)
    parts = [_look_up(partition_file, partition, original) for original in mapping.values()]
    images = [image for image, part in zip(mapping, parts) if part == PARTS[split]]
    return images, [_look_up(annotation_file, annotation, image) for image in images]


def _find(*candidates: Path) -> Path:
    """Return the first path that exists, or exists as a table with .csv."""
    for path in (*candidates, *(path.with_suffix(".csv") for path in candidates if path.suffix)):
        if path.exists():
            return path
    raise InputError(
        f"{candidates[0]}: no such file or folder; expected are {PARTITION}, {FOLDER}/{MAPPING}, "
        f"{FOLDER}/{ANNOTATION} (or these as .csv) and {FOLDER}/{IMAGES}/0.jpg and so on"
    )


def _read_lines(path: Path) -> list[Line]:
    """Read a file whose fields are separated by spaces, tabs, commas or semicolons; blank lines are skipped."""
    lines = enumerate(read_text(path).splitlines(), 1)
    split = (Line(number, [field.strip('"') for field in re.findall(r"[^\s,;]+", line)]) for number, line in lines)
    return [line for line in split if line.fields]


def _index_rows(path: Path, rows: Sequence[Line], width: int) -> dict[str, Line]:
    """Index rows by their first field, which must be unique; each must have ``width`` fields."""
    index: dict[str, Line] = {}
    for row in rows:
        if len(row.fields) != width:
            raise InputError(f"{path}, line {row.line}: {len(row.fields)} fields; there must be {width}")
        first = index.setdefault(row.fields[0], row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {row.fields[0]!r} is already on line {first.line}")
    return index


def _read_partition(path: Path) -> dict[str, str]:
    """Read the code in `PARTS` of each original image."""
    lines = _read_lines(path)
    headed = bool(lines) and lines[0].fields[-1].casefold() == "partition"
    rows = _index_rows(path, lines[headed:], 2)
    for line, (_, part) in rows.values():
        if part not in PARTS.values():
            allowed = ", ".join(f"{number} ({split})" for split, number in PARTS.items())
            raise InputError(f"{path}, line {line}: partition {part!r}; allowed: {allowed}")
    return {original: row.fields[1] for original, row in rows.items()}


def _read_mapping(path: Path) -> dict[str, str]:
    """Read the original of each image, such as ``119614.jpg`` for ``0.jpg``."""
    rows = _read_lines(path)
    if not rows or rows[0].fields != HEADER:
        raise InputError(f"{path}, line 1: the header must be '{' '.join(HEADER)}'")
    for line, fields in rows[1:]:
        if not fields[0].isdecimal():
            raise InputError(f"{path}, line {line}, column 'idx': {fields[0]!r} is not a whole number")
    return {f"{index}.jpg": row.fields[2] for index, row in _index_rows(path, rows[1:], len(HEADER)).items()}


def _read_annotation(path: Path, names: Sequence[str]) -> dict[str, list[int]]:
    """Read the attributes ``names`` of each image as 0 or 1."""
    header, rows, count = _split_annotation(path, _read_lines(path))
    known = header.fields
    images = _index_rows(path, rows, 1 + len(known))
    if count not in (None, len(images)):
        raise InputError(f"{path}, line 1: {count} images, but the file has rows for {len(images)}")
    for name, values in zip(known, zip(*(line.fields[1:] for line in images.values()))):
        low = "-1" if "-1" in values else "0"
        for line, value in zip(images.values(), values):
            if value not in (low, "1"):
                raise InputError(f"{path}, line {line.line}, column {name!r}: {value!r}; allowed: {low} or 1")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known) or known
            raise InputError(f"{path}, line {header.line}: no attribute {name!r}; try {', '.join(near)}")
    columns = [1 + known.index(name) for name in names]
    return {image: [int(row.fields[column] == "1") for column in columns] for image, row in images.items()}


def _split_annotation(path: Path, lines: Sequence[Line]) -> tuple[Line, Sequence[Line], int | None]:
    """Return the attributes' names, the rows, and the number of images if the file states it.

    As published, line 1 is the number and line 2 the names; the header of a copy names the column of the images too.
    """
    first = lines[0].fields if lines else []
    if len(lines) > 1 and len(first) == len(lines[1].fields) > 1:
        return Line(lines[0].line, first[1:]), lines[1:], None
    if len(lines) < 2 or len(first) != 1 or not first[0].isdecimal():
        raise InputError(f"{path}: line 1 must be the number of images, line 2 the attributes' names")
    return lines[1], lines[2:], int(first[0])


def _look_up(path: Path, table: Mapping[str, Value], key: str) -> Value:
    """Return the entry of an image in a file that must cover every image of the mapping file."""
    if key not in table:
        raise InputError(f"{path}: no row for {key!r}, which {MAPPING} names")
    return table[key]
