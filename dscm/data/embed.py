"""EMBED mammograms: grey PNG files, one or two CSV files of their attributes, and a split by patient."""

import difflib
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dscm.data.cache import decode, find_present
from dscm.data.framing import STRETCHED, Framing
from dscm.data.mammogram import read
from dscm.data.table import Row, read_csv, read_integers
from dscm.errors import InputError, option

Split = Literal["train", "valid", "test"]
SHARES = {"train": 0.60, "valid": 0.15, "test": 0.25}  # fractions of the patients
COLUMNS = {  # attribute: (column, lowest value, highest value)
    "circle marker": ("circle marker", 0, 1),
    "triangle marker": ("triangle marker", 0, 1),
    "density": ("tissueden", 1, 4),
    "cancer": ("is_positive", 0, 1),
}


class Table(NamedTuple):
    """A CSV file: its path, its columns and its rows by ``image_path``."""

    path: Path
    columns: list[str]
    rows: dict[str, Row]


def load(
    data_dir: Path | str,
    csvs: Sequence[Path | str],
    split: Split,
    names: Sequence[str],
    size: int,
    cache_dir: Path,
    workers: int = 1,
    framing: Framing = STRETCHED,
    seed: int = 0,
    skip_missing: bool = False,
) -> dict[str, Tensor]:
    """Load a split of EMBED, with each breast on the left, resized to squares and decoded once.

    Args:
        data_dir: the folder to which ``image_path`` is relative.
        csvs: one or two files with the columns ``image_path``, ``empi_anon`` (the patient) and the `COLUMNS` of
            ``names``. Only images in every file are used. A column ``split`` overrides `assign_split`.
        split: ``train``, ``valid`` or ``test``.
        names: the attributes to load, keys of `COLUMNS`.
        size: height and width in pixels.
        cache_dir: the folder of the decoded images.
        workers: number of processes that decode.
        framing: how mammograms become squares.
        seed: seed of the split.
        skip_missing: whether to skip any number of absent or broken images.

    Returns:
        ``image`` uint8 (N, 1, size, size), memory-mapped; ``index`` int64 (N,), the position of each image in the
        sorted list of all; and each attribute int64 (N,): density 0 to 3, the others 0 or 1.

    Raises:
        InputError: a CSV file is missing or damaged, a column is absent or holds another value, the files disagree, a
            patient is in two splits, images are absent or cannot be decoded, or the split is empty.

    Source: Jeong et al. 2023, The EMory BrEast imaging Dataset, https://github.com/Emory-HITI/EMBED_Open_Data.
    """
    tables = [_read_table(Path(path)) for path in csvs]
    images = _find_common(tables)
    values = {name: _read_attribute(tables, images, name) for name in names}
    listed = [i for i, part in enumerate(_read_splits(tables, images, seed)) if part == split]
    source = f"{' and '.join(str(table.path) for table in tables)}, split {split!r}"
    present = find_present(Path(data_dir), [images[i] for i in listed], source, skip_missing)
    index = [listed[i] for i in present]
    reader, label = partial(read, size=size, framing=framing), f"embed-{split}-{size}-{framing.name}"
    names_of_files, shape = [images[i] for i in index], (1, size, size)
    image, kept = decode(Path(data_dir), names_of_files, reader, shape, cache_dir, label, workers, skip_missing)
    index = [index[i] for i in kept]
    return {"image": image, "index": torch.tensor(index), **{name: value[index] for name, value in values.items()}}


def assign_split(patient: str, seed: int) -> Split:
    """Assign a patient to a split by a hash, uniform in [0, 1), independently of the other patients."""
    digest = hashlib.sha256(f"{seed} {patient}".encode(errors="surrogateescape")).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < SHARES["train"]:
        return "train"
    return "valid" if point < SHARES["train"] + SHARES["valid"] else "test"


def _read_table(path: Path) -> Table:
    """Read a CSV file that has one row for each image."""
    columns, rows = read_csv(path)
    if "image_path" not in columns:
        raise InputError(f"{path}: no column 'image_path'; the columns are {', '.join(columns)}")
    by_image: dict[str, Row] = {}
    for row in rows:
        first = by_image.setdefault(row.cells["image_path"], row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {row.cells['image_path']!r} is already on line {first.line}")
    return Table(path, columns, by_image)


def _find_common(tables: Sequence[Table]) -> list[str]:
    """List the images in every table, sorted."""
    if not tables:
        raise InputError(f"EMBED needs one or two CSV files: give them with {option('csv')}")
    images = sorted(set.intersection(*(set(table.rows) for table in tables)))
    if not images:
        counts = " and ".join(f"{len(table.rows)} of {table.path}" for table in tables)
        raise InputError(f"no image_path is in every CSV file: dropped are all rows, {counts}")
    return images


def _read_rows(tables: Sequence[Table], images: Sequence[str], column: str) -> tuple[Path, list[Row]]:
    """Return the file that has a column, and the row of each image; a second file must agree with it."""
    candidates = [table for table in tables if column in table.columns]
    if not candidates:
        columns = "; ".join(f"{table.path} has {', '.join(table.columns)}" for table in tables)
        raise InputError(f"no column {column!r}: {columns}")
    first, *others = candidates
    for table in others:
        for image in images:
            (_, one), (line, other) = first.rows[image], table.rows[image]
            if one[column] != other[column]:
                raise InputError(
                    f"{table.path}, line {line}, column {column!r}: {other[column]!r}, "
                    f"but {one[column]!r} for the same image in {first.path}"
                )
    return first.path, [first.rows[image] for image in images]


def _read_attribute(tables: Sequence[Table], images: Sequence[str], name: str) -> Tensor:
    """Read an attribute of each image, int64 (N,), counted from 0."""
    if name not in COLUMNS:
        near = difflib.get_close_matches(name, COLUMNS) or COLUMNS
        raise InputError(f"EMBED has no attribute {name!r}; try {', '.join(near)}")
    column, low, high = COLUMNS[name]
    path, rows = _read_rows(tables, images, column)
    values = read_integers(path, rows, column)
    for row, value in zip(rows, values):
        if not low <= value <= high:
            raise InputError(f"{path}, line {row.line}, column {column!r}: {value}; allowed: {low} to {high}")
    return torch.tensor(values) - low


def _read_splits(tables: Sequence[Table], images: Sequence[str], seed: int) -> list[str]:
    """Return the split of each image, from a column ``split`` or else from a hash of its patient."""
    path, rows = _read_rows(tables, images, "empi_anon")
    patients = [row.cells["empi_anon"] for row in rows]
    if "" in patients:
        raise InputError(f"{path}, line {rows[patients.index('')].line}, column 'empi_anon': empty; name the patient")
    if not any("split" in table.columns for table in tables):
        return [assign_split(patient, seed) for patient in patients]
    path, rows = _read_rows(tables, images, "split")
    first: dict[str, Row] = {}
    for patient, row in zip(patients, rows):
        split, other = row.cells["split"], first.setdefault(patient, row)
        if split not in SHARES:
            raise InputError(f"{path}, line {row.line}, column 'split': {split!r}; allowed: {', '.join(SHARES)}")
        if split != other.cells["split"]:
            raise InputError(
                f"{path}, line {row.line}: patient {patient!r} is in split {split!r}, "
                f"but in {other.cells['split']!r} on line {other.line}"
            )
    return [row.cells["split"] for row in rows]
