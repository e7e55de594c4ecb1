"""CSV files with a header, read strictly: whatever is doubtful is refused with its line and column."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from dscm.errors import InputError
from dscm.files import atomic_path


class Row(NamedTuple):
    """One row of a CSV file: the number of its line, and its cells by column."""

    line: int
    cells: dict[str, str]


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """Read a CSV file with a header into its column names and rows; blank lines are skipped.

    Args:
        path: the file, in UTF-8.

    Raises:
        InputError: the file is missing, empty or damaged, a column's name occurs twice, or a row's length is wrong.
    """
    try:  # surrogateescape: a file's name on Linux is bytes, and need not be UTF-8
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    if not columns:
        raise InputError(f"{path}: no header in the first line")
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: a column's name occurs twice in the header {', '.join(columns)}")
    for line, cells in lines:
        if len(cells) != len(columns):
            raise InputError(f"{path}, line {line}: {len(cells)} cells, the header has {len(columns)}")
    return columns, [Row(line, dict(zip(columns, cells))) for line, cells in lines]


def read_column(path: Path, rows: Sequence[Row], column: str, whole: bool = False) -> list[int] | list[float]:
    """Turn one column of `read_csv` into numbers.

    Args:
        path: the file, for the message.
        rows: the rows to read, in the order wanted.
        column: the name of the column.
        whole: accept whole numbers only, and return ints.

    Raises:
        InputError: a cell isn't a number, isn't finite in float32, or isn't whole.
    """
    return [_read_number(path, line, column, cells[column], whole) for line, cells in rows]


def read_labels(path: Path, rows: Sequence[Row], column: str, labels: Sequence[str]) -> list[int]:
    """Turn one column of `read_csv` into the places of its cells among labels; 7.0 is the label 7.

    Args:
        path, rows, column: as in `read_column`.
        labels: what a cell may hold.

    Raises:
        InputError: a cell is no label.
    """
    places = {label: place for place, label in enumerate(labels)}
    found = []
    for line, cells in rows:
        text = cells[column]
        place = places.get(text, places.get(without_fraction(text)))
        if place is None:
            raise InputError(f"{path}, line {line}, column {column!r}: {text!r}; allowed: {', '.join(labels)}")
        found.append(place)
    return found


def write_csv(path: Path, data: Mapping[str, Sequence[str] | Sequence[int] | Sequence[float]]) -> None:
    """Write columns as a CSV file; floats get the digits that read back to the same number.

    Args:
        path: the file; it is written whole or not at all.
        data: the columns by name, all of one length.

    Raises:
        ValueError: the lengths differ.
    """
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(data)
        writer.writerows(zip(*data.values(), strict=True))


def without_fraction(text: str) -> str:
    """Write a whole number without its fraction of zero; return other text as it is."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text


def _read_number(path: Path, line: int, column: str, text: str, whole: bool) -> int | float:
    """Turn one cell into a number that fits float32, or a whole number that fits a double."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) <= torch.finfo(torch.float32).max:  # also false for NaN
        raise InputError(f"{path}, line {line}, column {column!r}: {text!r} is not a finite number")
    if not whole:
        return number
    if not number.is_integer() or abs(number) > 2**53:
        raise InputError(f"{path}, line {line}, column {column!r}: {text!r} is not a whole number")
    return int(number)
