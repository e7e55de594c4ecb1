"""The tables of CelebA's releases, as published with spaces or copied with commas, read strictly."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from dscm.data.delimited import read_text
from dscm.errors import InputError

Value = TypeVar("Value")
PARTS = {"train": "0", "valid": "1", "test": "2"}  # codes of the partition file
PARTITION = "list_eval_partition.txt"  # as published; copies have tables of the same names with .csv


class Line(NamedTuple):
    """One line of a file: its number and its fields."""

    line: int
    fields: list[str]


def find_either(*candidates: Path) -> Path | None:
    """Return the first path that exists, or exists as a table with .csv; None if there is none."""
    for path in (*candidates, *(path.with_suffix(".csv") for path in candidates if path.suffix)):
        if path.exists():
            return path
    return None


def read_lines(path: Path) -> list[Line]:
    """Read a file whose fields are separated by spaces, tabs, commas or semicolons; blank lines are skipped."""
    lines = enumerate(read_text(path).splitlines(), 1)
    split = (Line(number, [field.strip('"') for field in re.findall(r"[^\s,;]+", line)]) for number, line in lines)
    return [line for line in split if line.fields]


def index_rows(path: Path, rows: Sequence[Line], width: int) -> dict[str, Line]:
    """Index rows by their first field.

    Raises:
        InputError: a row has not ``width`` fields, or two begin with the same one.
    """
    index: dict[str, Line] = {}
    for row in rows:
        if len(row.fields) != width:
            raise InputError(f"{path}, line {row.line}: {len(row.fields)} fields; there must be {width}")
        first = index.setdefault(row.fields[0], row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {row.fields[0]!r} is already on line {first.line}")
    return index


def read_partition(path: Path) -> dict[str, str]:
    """Read the code in `PARTS` of each image.

    Raises:
        InputError: there is another code, or as `index_rows`.
    """
    lines = read_lines(path)
    headed = bool(lines) and lines[0].fields[-1].casefold() == "partition"
    rows = index_rows(path, lines[headed:], 2)
    for line, (_, part) in rows.values():
        if part not in PARTS.values():
            allowed = ", ".join(f"{number} ({split})" for split, number in PARTS.items())
            raise InputError(f"{path}, line {line}: partition {part!r}; allowed: {allowed}")
    return {original: row.fields[1] for original, row in rows.items()}


def read_annotation(path: Path, names: Sequence[str]) -> dict[str, list[int]]:
    """Read the attributes ``names`` of each image as 0 or 1.

    Raises:
        InputError: the header is damaged, a value is neither −1 (or 0) nor 1, an attribute is unknown, or as
            `index_rows`.
    """
    header, rows, count = _split_annotation(path, read_lines(path))
    known = header.fields
    images = index_rows(path, rows, 1 + len(known))
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


def look_up(path: Path, table: Mapping[str, Value], key: str, source: str) -> Value:
    """Return the entry of an image in a file that must cover every image that the file ``source`` names.

    Raises:
        InputError: it does not.
    """
    if key not in table:
        raise InputError(f"{path}: no row for {key!r}, which {source} names")
    return table[key]


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
