"""The table of the attributes of a folder's images: ``attributes.csv``, one row an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dscm.causal.variables import Variable
from dscm.data.names import give_examples, match_rows
from dscm.data.table import Row, Table, is_gap, locate, read_binary, read_csv, read_labels, read_numbers, write_csv
from dscm.errors import InputError, option

IMAGE = "image"  # the column of the names


@dataclass(frozen=True)
class Attributes:
    """Attributes of images from a table.

    Args:
        images: the images of the folder, in order, without those that were left out.
        values: by name: float32 (N,) if real or circular, otherwise int64 (N,).
        table: the whole table.
        rows: the row of each image.
        notes: what was left out, or may be a mistake, one line each.
    """

    images: list[str]
    values: dict[str, Tensor]
    table: Table
    rows: list[Row]
    notes: list[str]


def read_attributes(
    path: Path,
    images: Sequence[str],
    variables: Mapping[str, Variable],
    folder: Path | None = None,
    partial: bool = False,
    skip_missing: bool = False,
) -> Attributes:
    """Read columns of the attribute table of a folder's images.

    Args:
        path: a table of which the column ``image`` holds paths relative to the folder, as `match_rows` reads them.
        images: the images of the folder, relative to it, with ``/`` as separator.
        variables: by column, the variable that it holds; other columns are ignored. The cells of a categorical
            variable hold its labels, those of a binary one are as in `read_binary`.
        folder: the folder; None is that of the table.
        partial: whether columns may be absent.
        skip_missing: whether to leave out rows without an image, images without a row, and rows with an empty cell.

    Returns:
        The attributes of which there are columns.

    Raises:
        InputError: a column is missing, an image has no row or two, a row's image is not in the folder, or a value is
            empty, unreadable or outside its domain.
    """
    table = read_csv(path)
    key = table.require(IMAGE)
    columns = {name: column for name in variables if (column := table.find(name) if partial else table.require(name))}
    found, extra = match_rows(path, table.rows, key, images, folder or path.parent)
    gaps = {image: gap for image, row in found.items() if (gap := _find_gap(row, columns, variables))}
    kept = [image for image in images if image in found and image not in gaps]
    lost = {
        "rows name no image of the folder": [row.cells[key] for row in extra],
        "images of the folder have no row": [image for image in images if image not in found],
        "rows have an empty cell": [image for image in images if image in gaps],
    }
    notes = [f"{path}: {len(some)} {what}: {give_examples(some)}; left out" for what, some in lost.items() if some]
    if notes and not skip_missing:
        raise _incomplete(path, images, found, extra, key, gaps)
    if not kept:
        raise InputError("; ".join([f"{path}: no image is left", *notes]))
    rows = [found[image] for image in kept]
    values = {name: _read_column(path, rows, column, variables[name], kept) for name, column in columns.items()}
    return Attributes(kept, values, table, rows, notes + _guess_columns(table, [*variables.keys() - columns.keys()]))


def read_attribute_table(
    path: Path,
    images: Sequence[str],
    variables: Sequence[Variable],
    partial: bool = False,
    skip_missing: bool = False,
) -> Attributes:
    """Read the attribute table of a folder's images, each variable from the column of its name.

    Args:
        path, images, partial, skip_missing: as for `read_attributes`.
        variables: the columns to read.

    Raises:
        InputError: as for `read_attributes`.
    """
    named = {variable.name: variable for variable in variables}
    return read_attributes(path, images, named, partial=partial, skip_missing=skip_missing)


def write_attributes(path: Path, images: Sequence[str], data: Mapping[str, Tensor]) -> None:
    """Write an attribute table that `read_attributes` reads back exactly.

    Args:
        path: the file, written atomically.
        images: paths relative to the folder, with ``/`` as separator.
        data: the columns, each (N,).

    Raises:
        ValueError: the length of a column is not the number of images.
    """
    write_csv(path, {IMAGE: images, **{name: values.tolist() for name, values in data.items()}})


def _find_gap(row: Row, columns: Mapping[str, str], variables: Mapping[str, Variable]) -> str | None:
    """Return the first column in which a row has no value; None if there is none."""
    for name, column in columns.items():
        text = row.cells[column].strip()
        if is_gap(text) and text not in variables[name].labels:
            return column
    return None


def _incomplete(
    path: Path,
    images: Sequence[str],
    found: Mapping[str, Row],
    extra: Sequence[Row],
    key: str,
    gaps: Mapping[str, str],
) -> InputError:
    """Make the error that rows and images do not belong together, or that a cell is empty."""
    way_out = f"or leave them out with {option('skip_missing')}"
    missing = [image for image in images if image not in found]
    if extra:
        name, names = extra[0].cells[key], give_examples([row.cells[key] for row in extra])
        told = f"{name!r} is not an image of the folder ({len(extra)} such rows: {names})"
        return InputError(f"{path}, line {extra[0].line}: {told}; correct them, {way_out}")
    if missing:
        counted = f"{len(missing)} of {len(images)} images have none: {give_examples(missing)}"
        return InputError(f"{path}: no row for {missing[0]!r} ({counted}); add them, {way_out}")
    image, column = min(gaps.items(), key=lambda gap: found[gap[0]].line)
    told = f"{found[image].cells[column]!r} is no value ({len(gaps)} rows lack one)"
    return InputError(f"{locate(path, found[image], column)}: {told}; fill it in, {way_out}")


def _read_column(path: Path, rows: Sequence[Row], column: str, variable: Variable, images: Sequence[str]) -> Tensor:
    """Read the values of one variable, and check that each is in its domain."""
    if variable.kind == "categorical":
        return torch.tensor(read_labels(path, rows, column, variable.labels), dtype=torch.int64)
    if variable.kind == "binary":
        return torch.tensor(read_binary(path, rows, column), dtype=torch.int64)
    values = read_numbers(path, rows, column)
    for image, row, value in zip(images, rows, values):
        if variable.kind != "circular" and not variable.contains(value):
            told = f"{variable.name} of {image} is {row.cells[column].strip()}"
            raise InputError(f"{path}, line {row.line}: {told}; allowed: {variable.domain}")
    return torch.tensor(values, dtype=torch.float32)


def _guess_columns(table: Table, absent: Sequence[str]) -> list[str]:
    """Name the columns that were perhaps meant by the names that the table lacks."""
    near = {name: table.guess(name) for name in absent}
    return [f"{table.path}: column {column!r} is not used; is it {name!r}?" for name, column in near.items() if column]
