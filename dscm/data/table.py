"""CSV files with a header, read strictly: an error names the file, the line and the column."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from dscm.errors import InputError
from dscm.files import atomic_path


class Row(NamedTuple):
    """One row of a CSV file: its line number and its cells by column."""

    line: int
    cells: dict[str, str]


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """Read a CSV file with a header; blank lines are skipped.

    Args:
        path: the file, in UTF-8.

    Returns:
        The column names and the rows.

    Raises:
        InputError: the file is missing, empty or damaged, a column name occurs twice, or a row has a wrong length.
    """
    try:  # surrogateescape, because file names on Linux are bytes that need not be UTF-8
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


def read_numbers(path: Path, rows: Sequence[Row], column: str) -> list[float]:
    """Convert one column of `read_csv` to numbers.

    Args:
        path: the file, named in error messages.
        rows: the rows to convert, in the order of the result.
        column: the name of the column.

    Returns:
        One number for each row.

    Raises:
        InputError: a cell is not a number or not finite in float32.
    """
    return [_read_number(path, line, column, cells[column]) for line, cells in rows]


def read_integers(path: Path, rows: Sequence[Row], column: str) -> list[int]:
    """Convert one column of `read_csv` to whole numbers; a cell ``7.0`` is 7.

    Args:
        path: the file, named in error messages.
        rows: the rows to convert, in the order of the result.
        column: the name of the column.

    Returns:
        One number for each row.

    Raises:
        InputError: a cell is not a whole number, or too large for float64 to hold exactly.
    """
    return [_read_integer(path, line, column, cells[column]) for line, cells in rows]


def read_labels(path: Path, rows: Sequence[Row], column: str, labels: Sequence[str]) -> list[int]:
    """Convert one column of `read_csv` to class indices; a cell ``7.0`` matches the label ``7``.

    Args:
        path: the file, named in error messages.
        rows: the rows to convert, in the order of the result.
        column: the name of the column.
        labels: the allowed labels, in the order of their classes.

    Returns:
        The index of each row's label in ``labels``.

    Raises:
        InputError: a cell is not a label.
    """
    classes = {label: index for index, label in enumerate(labels)}
    result = []
    for line, cells in rows:
        text = cells[column]
        index = classes.get(text, classes.get(without_fraction(text)))
        if index is None:
            raise InputError(f"{path}, line {line}, column {column!r}: {text!r}; allowed: {', '.join(labels)}")
        result.append(index)
    return result


def write_csv(path: Path, data: Mapping[str, Sequence[str] | Sequence[int] | Sequence[float]]) -> None:
    """Write columns as a CSV file; floats get enough digits to read back as the same number.

    Args:
        path: the file, written atomically.
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
    """Return ``7`` for ``7.0``, and any text that is not a whole number unchanged."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text


def _read_number(path: Path, line: int, column: str, text: str) -> float:
    """Convert one cell to a number in the range of float32."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) <= torch.finfo(torch.float32).max:  # also false for NaN
        raise InputError(f"{path}, line {line}, column {column!r}: {text!r} is not a finite number")
    return number


def _read_integer(path: Path, line: int, column: str, text: str) -> int:
    """Convert one cell to a whole number that float64 holds exactly."""
    number = _read_number(path, line, column, text)
    if not number.is_integer() or abs(number) > 2**53:
        raise InputError(f"{path}, line {line}, column {column!r}: {text!r} is not a whole number")
    return int(number)
