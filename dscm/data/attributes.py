"""The table of the attributes of a folder's images: ``attributes.csv``, one row an image."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dscm.causal.variables import Variable
from dscm.data.table import Row, read_csv, read_integers, read_labels, read_numbers, write_csv
from dscm.errors import InputError


def read_attributes(
    path: Path,
    images: Sequence[str],
    names: Sequence[str],
    integer: Collection[str] = (),
    labels: Mapping[str, Sequence[str]] = {},
) -> dict[str, Tensor]:
    """Read columns of the attribute table of a folder's images.

    Args:
        path: a CSV file whose first column, ``image``, holds paths relative to the folder with ``/`` as separator.
        images: the images of the folder, written the same way.
        names: the columns to read; others are ignored.
        integer: the columns that must hold whole numbers.
        labels: the class labels of each column that holds labels.

    Returns:
        Each column in the order of ``images``: float32 (N,), or int64 (N,) for whole numbers and class indices.

    Raises:
        InputError: a column is missing, an image has no row or two, a row's image is not in the folder, or a cell
            is not a finite number or not a label.
    """
    columns, rows = read_csv(path)
    if columns[0] != "image":
        raise InputError(f"{path}: the first column must be 'image', not {columns[0]!r}")
    for name in names:
        if name not in columns:
            raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(columns)}")
    ordered = _match_rows(path, rows, images)
    result = {}
    for name in names:
        if name in labels:
            result[name] = torch.tensor(read_labels(path, ordered, name, labels[name]), dtype=torch.int64)
        elif name in integer:
            result[name] = torch.tensor(read_integers(path, ordered, name), dtype=torch.int64)
        else:
            result[name] = torch.tensor(read_numbers(path, ordered, name), dtype=torch.float32)
    return result


def read_attribute_table(path: Path, images: Sequence[str], variables: Sequence[Variable]) -> dict[str, Tensor]:
    """Read the attribute table of a folder's images and check each value against its variable's domain.

    Args:
        path: the file, as for `read_attributes`.
        images: the images of the folder; the table must have one row for each and no others.
        variables: the columns to read; the cells of a categorical variable hold its labels.

    Returns:
        Each variable in the order of ``images``: float32 (N,) if real or circular, otherwise int64 (N,).

    Raises:
        InputError: as for `read_attributes`, or a value is outside its domain.
    """
    integer = [variable.name for variable in variables if variable.kind == "binary"]
    labels = {variable.name: variable.labels for variable in variables if variable.kind == "categorical"}
    values = read_attributes(path, images, [variable.name for variable in variables], integer, labels)
    for variable in variables:
        for image, value in zip(images, values[variable.name].tolist()):
            if variable.kind != "circular" and not variable.contains(value):
                raise InputError(f"{path}: {variable.name} of {image} is {value:g}; allowed: {variable.domain}")
    return values


def write_attributes(path: Path, images: Sequence[str], data: Mapping[str, Tensor]) -> None:
    """Write an attribute table that `read_attributes` reads back exactly.

    Args:
        path: the file, written atomically.
        images: paths relative to the folder, with ``/`` as separator.
        data: the columns, each (N,).

    Raises:
        ValueError: the length of a column is not the number of images.
    """
    write_csv(path, {"image": images, **{name: values.tolist() for name, values in data.items()}})


def _match_rows(path: Path, rows: Sequence[Row], images: Sequence[str]) -> list[Row]:
    """Return the row of each image in the order of the images; each must have exactly one."""
    by_image: dict[str, Row] = {}
    for row in rows:
        first = by_image.setdefault(row.cells["image"], row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {row.cells['image']!r} is already on line {first.line}")
    known = set(images)
    extra = [row for name, row in by_image.items() if name not in known]
    if extra:
        raise InputError(
            f"{path}, line {extra[0].line}: {extra[0].cells['image']!r} is not an image of the folder "
            f"({len(extra)} such rows)"
        )
    missing = [name for name in images if name not in by_image]
    if missing:
        raise InputError(f"{path}: no row for {missing[0]!r} ({len(missing)} of {len(images)} images have none)")
    return [by_image[name] for name in images]
