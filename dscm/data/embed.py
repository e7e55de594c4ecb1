"""EMBED mammograms: grey PNG files, one or two CSV files that say what each shows, and a split by patient."""

import difflib
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dscm.data.cache import decode, find_present
from dscm.data.mammogram import Framing, read
from dscm.data.table import Row, read_column, read_csv
from dscm.errors import InputError

Split = Literal["train", "valid", "test"]
SHARES = {"train": 0.60, "valid": 0.15, "test": 0.25}  # of the patients
COLUMNS = {  # of each attribute: the column, and its lowest and highest value
    "circle marker": ("circle marker", 0, 1),
    "triangle marker": ("triangle marker", 0, 1),
    "density": ("tissueden", 1, 4),
    "cancer": ("is_positive", 0, 1),
}


class Table(NamedTuple):
    """A CSV file: its path, its columns, and its rows by ``image_path``."""

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
    framing: Framing = Framing(),
    seed: int = 0,
    skip_missing: bool = False,
) -> dict[str, Tensor]:
    """Load a split of EMBED: mammograms that lie to the left, resized to a square, decoded once.

    Args:
        data_dir: the folder to which ``image_path`` is relative.
        csvs: one or two files with the columns ``image_path``, ``empi_anon`` (the patient) and those that ``names``
            need: ``circle marker``, ``triangle marker``, ``tissueden``, ``is_positive``. Of two files, the images in
            both are used. A column ``split`` overrides the split by `assign_split`.
        split: ``train``, ``valid`` or ``test``.
        names: of ``circle marker``, ``triangle marker``, ``density``, ``cancer``.
        size: height and width in pixels.
        cache_dir: where the decoded images are kept.
        workers: processes that decode.
        framing: as `mammogram.prepare` takes it.
        seed: of the split.
        skip_missing: leave out any number of absent images, not only 1% of them.

    Returns:
        ``image`` uint8 (N, 1, size, size), memory-mapped; ``index`` int64 (N,), the place of each image among all by
        ``image_path``, which is their order; and each attribute int64 (N,): density 0 to 3, the others 0 or 1.

    Raises:
        InputError: a CSV file is missing or damaged, a column is absent or holds another value, the files disagree, a
            patient is in two splits, images are absent or don't decode, or the split is empty.

    Source: Jeong et al. 2023, The EMory BrEast imaging Dataset, https://github.com/Emory-HITI/EMBED_Open_Data.
    """
    tables = [_read_table(Path(path)) for path in csvs]
    images = _find_common(tables)
    values = {name: _read_attribute(tables, images, name) for name in names}
    own = [index for index, part in enumerate(_read_splits(tables, images, seed)) if part == split]
    source = f"{' and '.join(str(table.path) for table in tables)}, split {split!r}"
    present = find_present(Path(data_dir), [images[index] for index in own], source, skip_missing)
    own = [own[index] for index in present]
    image = decode(
        Path(data_dir),
        [images[index] for index in own],
        partial(read, size=size, framing=framing),
        (1, size, size),
        cache_dir,
        f"embed-{split}-{size}-{framing.name}",
        workers,
    )
    return {"image": image, "index": torch.tensor(own), **{name: column[own] for name, column in values.items()}}


def assign_split(patient: str, seed: int) -> Split:
    """Assign a patient to a split, whoever the other patients are: by a hash that is uniform in [0, 1)."""
    digest = hashlib.sha256(f"{seed} {patient}".encode(errors="surrogateescape")).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < SHARES["train"]:
        return "train"
    return "valid" if point < SHARES["train"] + SHARES["valid"] else "test"


def _read_table(path: Path) -> Table:
    """Read a CSV file by image, each of which has one row."""
    columns, rows = read_csv(path)
    if "image_path" not in columns:
        raise InputError(f"{path}: no column 'image_path'; the columns are {', '.join(columns)}")
    found: dict[str, Row] = {}
    for row in rows:
        first = found.setdefault(row.cells["image_path"], row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {row.cells['image_path']!r} is already on line {first.line}")
    return Table(path, columns, found)


def _find_common(tables: Sequence[Table]) -> list[str]:
    """List the images that all tables have, in an order that depends on no table."""
    if not tables:
        raise InputError("EMBED needs one or two CSV files: give them with --csv")
    images = sorted(set.intersection(*(set(table.rows) for table in tables)))
    if not images:
        counts = " and ".join(f"{len(table.rows)} of {table.path}" for table in tables)
        raise InputError(f"no image_path is in every CSV file: dropped are all rows, {counts}")
    return images


def _read_rows(tables: Sequence[Table], images: Sequence[str], column: str) -> tuple[Path, list[Row]]:
    """Return the file that has a column, and each image's row in it; a second file must say the same."""
    having = [table for table in tables if column in table.columns]
    if not having:
        columns = "; ".join(f"{table.path} has {', '.join(table.columns)}" for table in tables)
        raise InputError(f"no column {column!r}: {columns}")
    first, *others = having
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
    """Read an attribute of every image, int64 (N,), counted from zero."""
    if name not in COLUMNS:
        near = difflib.get_close_matches(name, COLUMNS) or COLUMNS
        raise InputError(f"EMBED has no attribute {name!r}; try {', '.join(near)}")
    column, low, high = COLUMNS[name]
    path, rows = _read_rows(tables, images, column)
    values = read_column(path, rows, column, whole=True)
    for row, value in zip(rows, values):
        if not low <= value <= high:
            raise InputError(f"{path}, line {row.line}, column {column!r}: {value}; allowed: {low} to {high}")
    return torch.tensor(values) - low


def _read_splits(tables: Sequence[Table], images: Sequence[str], seed: int) -> list[str]:
    """Return the split of every image: what a column ``split`` says, or else the hash of its patient."""
    path, rows = _read_rows(tables, images, "empi_anon")
    patients = [row.cells["empi_anon"] for row in rows]
    if "" in patients:
        raise InputError(f"{path}, line {rows[patients.index('')].line}, column 'empi_anon': empty; name the patient")
    if not any("split" in table.columns for table in tables):
        return [assign_split(patient, seed) for patient in patients]
    path, rows = _read_rows(tables, images, "split")
    first: dict[str, Row] = {}
    for patient, row in zip(patients, rows):
        own, other = row.cells["split"], first.setdefault(patient, row)
        if own not in SHARES:
            raise InputError(f"{path}, line {row.line}, column 'split': {own!r}; allowed: {', '.join(SHARES)}")
        if own != other.cells["split"]:
            raise InputError(
                f"{path}, line {row.line}: patient {patient!r} is in split {own!r}, "
                f"but in {other.cells['split']!r} on line {other.line}"
            )
    return [row.cells["split"] for row in rows]
