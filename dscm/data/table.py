"""Tables with a header, as people have them, read strictly: an error names the file, the line and the column."""

import csv
import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from dscm.data.delimited import read_text, repair, split_lines
from dscm.errors import InputError
from dscm.files import atomic_path

GAPS = ("", "na", "n/a", "#n/a", "<na>", "nan", "none", "null")  # what stands in a cell without a value, in any case
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
NOTATIONS = (("0", "1"), ("-1", "1"), ("false", "true"), ("no", "yes"))  # of a binary column, in any case
BINARY = ", ".join(" or ".join(pair) for pair in NOTATIONS)


class Row(NamedTuple):
    """One row of a table: its line number, its cells by column, and whether a comma may be a decimal one."""

    line: int
    cells: dict[str, str]
    decimal_comma: bool = False


class Table(NamedTuple):
    """A table: its file, its columns and its rows."""

    path: Path
    columns: list[str]
    rows: list[Row]

    def find(self, name: str) -> str | None:
        """Return the column of a name; otherwise the one that differs in case, spaces and underscores; or else None.

        Raises:
            InputError: several columns differ from the name in this way.
        """
        if name in self.columns:
            return name
        alike = [column for column in self.columns if _fold(column) == _fold(name)]
        if len(alike) > 1:
            raise InputError(f"{self.path}: column {name!r} may be {' or '.join(map(repr, alike))}; rename one")
        return alike[0] if alike else None

    def guess(self, name: str) -> str | None:
        """Return the column whose name is close to one that the table lacks; None if there is none."""
        near = difflib.get_close_matches(_fold(name), [_fold(column) for column in self.columns], 1, 0.8)
        return next((column for column in self.columns if _fold(column) in near), None)

    def require(self, name: str) -> str:
        """Return the column as `find` does.

        Raises:
            InputError: there is none.
        """
        column = self.find(name)
        if column is None:
            raise self.lacks(name)
        return column

    def lacks(self, name: str) -> InputError:
        """Make the error that there is no column of a name."""
        near = self.guess(name)
        hint = f"; is it {near!r}?" if near else ""
        return InputError(f"{self.path}: no column {name!r}; the columns are {', '.join(self.columns)}{hint}")


def read_csv(path: Path) -> Table:
    """Read a table with a header; blank lines, and empty cells at the end of all lines, are skipped.

    Args:
        path: the file: in an encoding of `read_text`, with a separator of `split_lines`. Numbers may have a decimal
            comma where another separator is used.

    Raises:
        InputError: the file is missing, empty or damaged, a column name occurs twice, or a row has a wrong length or
            repeats the header.
    """
    separator, lines = split_lines(path, read_text(path))
    if not lines:
        raise InputError(f"{path}: no header in the first line")
    columns = [" ".join(repair(name).split()) for name in _trim(lines[0][1])]
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: a column's name occurs twice in the header {', '.join(columns)}")
    rows = []
    for line, cells in lines[1:]:
        cells = cells if len(cells) <= len(columns) else [*cells[: len(columns)], *_trim(cells[len(columns) :])]
        if len(cells) != len(columns):
            raise InputError(f"{path}, line {line}: {len(cells)} cells, the header has {len(columns)}")
        if [" ".join(repair(cell).split()) for cell in cells] == columns:
            raise InputError(f"{path}, line {line}: the header again; delete this line")
        rows.append(Row(line, dict(zip(columns, cells)), separator != ","))
    return Table(path, columns, rows)


def read_numbers(path: Path, rows: Sequence[Row], column: str) -> list[float]:
    """Convert one column of `read_csv` to numbers.

    Args:
        path: the file, named in error messages.
        rows: the rows to convert, in the order of the result.
        column: the name of the column.

    Returns:
        One number for each row.

    Raises:
        InputError: a cell is not a number or not finite in float32, or the column has decimal commas and points.
    """
    comma = next((row for row in rows if any(map(DECIMAL_COMMA.fullmatch, row.cells.values()))), None)
    point = next((row for row in rows if "." in row.cells[column]), None)
    if comma and comma.decimal_comma and point:
        with_comma = next(cell for cell in comma.cells.values() if DECIMAL_COMMA.fullmatch(cell))
        told = f"{point.cells[column]!r}, but {with_comma!r} on line {comma.line}"
        raise InputError(f"{locate(path, point, column)}: {told}; use decimal commas or points, not both")
    return [_read_number(path, row, column) for row in rows]


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
    return [_read_integer(path, row, column) for row in rows]


def read_binary(path: Path, rows: Sequence[Row], column: str) -> list[int]:
    """Convert one column of `read_csv` to 0 and 1.

    Args:
        path: the file, named in error messages.
        rows: the rows to convert, in the order of the result.
        column: the name of the column, written in one of the `NOTATIONS`.

    Returns:
        0 or 1 for each row.

    Raises:
        InputError: a cell is in no notation, or in another one than the rest of the column.
    """
    words = [_plain(row, column).casefold() for row in rows]
    known = {word for pair in NOTATIONS for word in pair}
    for row, word in zip(rows, words):
        if word not in known:
            raise _not_allowed(path, row, column, BINARY)
    present = set(words)
    for pair in NOTATIONS:
        if present <= {*pair}:
            return [pair.index(word) for word in words]
    first, other = next(
        (first, other) for first in present for other in present if not any({first, other} <= {*p} for p in NOTATIONS)
    )
    one, two = sorted((rows[words.index(word)] for word in (first, other)), key=lambda row: row.line)
    told = f"{two.cells[column]!r}, but {one.cells[column]!r} on line {one.line}"
    raise InputError(f"{locate(path, two, column)}: {told}; write the whole column in one way: {BINARY}")


def read_labels(path: Path, rows: Sequence[Row], column: str, labels: Sequence[str]) -> list[int]:
    """Convert one column of `read_csv` to class indices.

    A cell that is no label matches the one from which it differs in case, in spaces around it, or as ``7.0`` and ``7``.

    Args:
        path: the file, named in error messages.
        rows: the rows to convert, in the order of the result.
        column: the name of the column.
        labels: the allowed labels, in the order of their classes.

    Returns:
        The index of each row's label in ``labels``.

    Raises:
        InputError: a cell is not a label, or may be several.
    """
    exact = {label: [index] for index, label in enumerate(labels)}
    loose: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        loose.setdefault(_loosen(label), []).append(index)
    result = []
    for row in rows:
        found = exact.get(row.cells[column].strip()) or loose.get(_loosen(_plain(row, column)), [])
        if len(found) != 1:
            raise _not_allowed(path, row, column, ", ".join(labels))
        result += found
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


def is_gap(text: str) -> bool:
    """Tell whether a cell has no value."""
    return text.strip().casefold() in GAPS


def locate(path: Path, row: Row, column: str) -> str:
    """Name a cell for an error message."""
    return f"{path}, line {row.line}, column {column!r}"


def without_fraction(text: str) -> str:
    """Return ``7`` for ``7.0``, and any text that is not a whole number unchanged."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text


def _trim(cells: list[str]) -> list[str]:
    """Drop the empty cells at the end of a line, which spreadsheets write."""
    last = max((i for i, cell in enumerate(cells) if cell.strip()), default=-1)
    return cells[: last + 1]


def _fold(name: str) -> str:
    """Return a column's name without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name)).casefold()


def _loosen(label: str) -> str:
    """Return the form in which labels are the same."""
    return unicodedata.normalize("NFC", without_fraction(label.strip())).casefold()


def _plain(row: Row, column: str) -> str:
    """Return a cell without spaces around it; a whole number without its fraction."""
    return without_fraction(_with_point(repair(row.cells[column]).strip(), row.decimal_comma))


def _with_point(text: str, decimal_comma: bool) -> str:
    """Replace the decimal comma of a number, and the minus sign of typesetters."""
    text = text.replace("\N{MINUS SIGN}", "-")
    return text.replace(",", ".") if decimal_comma and re.fullmatch(r"[+-]?\d*,\d*([eE][+-]?\d+)?", text) else text


def _not_allowed(path: Path, row: Row, column: str, allowed: str) -> InputError:
    """Make the error of a cell that holds something else than what is allowed."""
    return InputError(f"{locate(path, row, column)}: {row.cells[column]!r}; allowed: {allowed}")


def _read_number(path: Path, row: Row, column: str) -> float:
    """Convert one cell to a number in the range of float32."""
    text = _with_point(row.cells[column].strip(), row.decimal_comma)
    try:
        number = float("nan" if "_" in text else text)  # Python would take 1_000
    except ValueError:
        number = float("nan")
    if not abs(number) <= torch.finfo(torch.float32).max:  # also false for NaN
        raise InputError(f"{locate(path, row, column)}: {row.cells[column]!r} is not a finite number")
    return number


def _read_integer(path: Path, row: Row, column: str) -> int:
    """Convert one cell to a whole number that float64 holds exactly."""
    number = _read_number(path, row, column)
    if not number.is_integer() or abs(number) > 2**53:
        raise InputError(f"{locate(path, row, column)}: {row.cells[column]!r} is not a whole number")
    return int(number)
