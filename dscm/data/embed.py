"""EMBED mammograms: grey PNG files, one or two CSV files of their attributes, and a split by patient."""

import difflib
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from dscm.data.cache import decode, find_present
from dscm.data.framing import STRETCHED, Framing
from dscm.data.group import GROUP, read_groups
from dscm.data.mammogram import read
from dscm.data.names import Names
from dscm.data.split import Split
from dscm.data.table import Row, Table, is_gap, locate, read_binary, read_csv, read_integers, read_labels
from dscm.errors import InputError, option

SHARES = {"train": 0.60, "valid": 0.15, "test": 0.25}  # fractions of the patients
COLUMNS = {  # the column of each attribute; all but the density are binary
    "circle marker": "circle marker",
    "triangle marker": "triangle marker",
    "density": "tissueden",
    "cancer": "is_positive",
}
DENSITIES, MALE = (1, 2, 3, 4), 5  # EMBED's legend calls density 5 "normal male"


@dataclass(frozen=True)
class Listing:
    """A table of images.

    Args:
        table: the table.
        rows: its rows by the normal form of ``image_path``.
        key: the column ``image_path``.
    """

    table: Table
    rows: Mapping[str, Row]
    key: str

    def written(self, image: str) -> str:
        """Return the ``image_path`` of an image as it is written."""
        return self.rows[image].cells[self.key]


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

    Used are the images in every file with all attributes, the density 1 to 4; a line on standard error counts others.

    Args:
        data_dir: the folder to which ``image_path`` is relative.
        csvs: one or two files with the columns ``image_path``, ``empi_anon`` (the patient) and the `COLUMNS` of
            ``names``. A column ``split`` overrides `assign_split`; ``group`` is equal where the breast is the same.
        split, names, size: which; the attributes to load, keys of `COLUMNS`; and height and width in pixels.
        cache_dir, workers: the folder of the decoded images, and the number of processes that decode.
        framing, seed: how mammograms become squares; and the seed of the split.
        skip_missing: whether to skip any number of absent or broken images.

    Returns:
        ``image`` uint8 (N, 1, size, size), memory-mapped; ``index`` int64 (N,), the position of each image in the
        sorted list of all; each attribute and any ``group`` int64 (N,): density 0 to 3, the others 0 or 1.

    Raises:
        InputError: a CSV file is missing or damaged, a column is absent or holds another value, the files disagree, a
            patient is in two splits, images are absent or cannot be decoded, or the split is empty.

    Source: Jeong et al. 2023, The EMory BrEast imaging Dataset, https://github.com/Emory-HITI/EMBED_Open_Data.
    """
    spellings = Names(Path(data_dir))
    listings = [_read_listing(Path(path), spellings) for path in csvs]
    images = _find_common(listings)  # by the normal form of their paths
    values, lost = _read_attributes(listings, images, names)
    source = f"{' and '.join(str(listing.table.path) for listing in listings)}, split {split!r}"
    listed = _leave_out(_list_split(listings, images, seed, split), lost, source)
    files = {i: spellings.find(listings[0].written(images[i])) for i in listed}
    present = find_present(Path(data_dir), [*files.values()], source, skip_missing)
    index = [listed[i] for i in present]
    reader, label = partial(read, size=size, framing=framing), f"embed-{split}-{size}-{framing.name}"
    chosen, shape = [files[i] for i in index], (1, size, size)
    image, kept = decode(Path(data_dir), chosen, reader, shape, cache_dir, label, workers, skip_missing)
    index = [index[i] for i in kept]
    values |= _read_group(listings, images)
    return {"image": image, "index": torch.tensor(index)} | {name: value[index] for name, value in values.items()}


def assign_split(patient: str, seed: int) -> Split:
    """Assign a patient to a split by a hash, uniform in [0, 1), independently of the other patients."""
    digest = hashlib.sha256(f"{seed} {patient}".encode(errors="surrogateescape")).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < SHARES["train"]:
        return "train"
    return "valid" if point < SHARES["train"] + SHARES["valid"] else "test"


def _read_listing(path: Path, names: Names) -> Listing:
    """Read a CSV file that has one row for each image."""
    table = read_csv(path)
    key = table.require("image_path")
    by_image: dict[str, Row] = {}
    for row in table.rows:
        first = by_image.setdefault(names.normalise(row.cells[key]), row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {row.cells[key]!r} is already on line {first.line}")
    return Listing(table, by_image, key)


def _find_common(listings: Sequence[Listing]) -> list[str]:
    """List the images in every table, sorted."""
    if not listings:
        raise InputError(f"EMBED needs one or two CSV files: give them with {option('csv')}")
    images = sorted(set.intersection(*(set(listing.rows) for listing in listings)))
    if not images:
        counts = " and ".join(f"{len(listing.rows)} of {listing.table.path}" for listing in listings)
        raise InputError(f"no image_path is in every CSV file: dropped are all rows, {counts}")
    return images


def _read_rows(listings: Sequence[Listing], images: Sequence[str], name: str) -> tuple[Path, str, list[Row]]:
    """Return the file that has a column, the column, and the row of each image; a second file must agree with it."""
    candidates = [(listing, column) for listing in listings if (column := listing.table.find(name)) is not None]
    if not candidates:
        columns = "; ".join(f"{listing.table.path} has {', '.join(listing.table.columns)}" for listing in listings)
        raise InputError(f"no column {name!r}: {columns}")
    (first, column), *others = candidates
    for listing, other in others:
        for image in images:
            one, two = first.rows[image], listing.rows[image]
            if _simplify(one.cells[column]) != _simplify(two.cells[other]):
                raise InputError(
                    f"{locate(listing.table.path, two, other)}: {two.cells[other]!r}, "
                    f"but {one.cells[column]!r} for the same image in {first.table.path}"
                )
    return first.table.path, column, [first.rows[image] for image in images]


def _read_attributes(
    listings: Sequence[Listing], images: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[int, str]]:
    """Read attributes of images.

    Returns:
        The attributes, int64 (N,), counted from 0; and of each image that lacks one its index and the reason.
    """
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS) or COLUMNS
            raise InputError(f"EMBED has no attribute {name!r}; try {', '.join(near)}")
    found = {name: _read_rows(listings, images, COLUMNS[name]) for name in names}
    lost: dict[int, str] = {}
    for name, (_, column, rows) in found.items():
        for i, row in enumerate(rows):
            if is_gap(row.cells[column]):
                lost.setdefault(i, f"without {column}")
            elif name == "density" and _simplify(row.cells[column]) == str(MALE):
                lost.setdefault(i, f"with {column} {MALE} (normal male)")
    full = [i for i in range(len(images)) if i not in lost]
    values = {name: torch.zeros(len(images), dtype=torch.int64) for name in names}
    for name, (path, column, rows) in found.items():
        read_all = read_binary if name != "density" else _read_densities
        values[name][full] = torch.tensor(read_all(path, [rows[i] for i in full], column), dtype=torch.int64)
    return values, lost


def _read_group(listings: Sequence[Listing], images: Sequence[str]) -> dict[str, Tensor]:
    """Return the groups of images by their name, int64 (N,), where a table has them."""
    if not any(listing.table.find(GROUP) for listing in listings):
        return {}
    _, column, rows = _read_rows(listings, images, GROUP)
    return {GROUP: read_groups(rows, column)}


def _leave_out(listed: Sequence[int], lost: Mapping[int, str], source: str) -> list[int]:
    """Return the indices that are not lost, and say on standard error how many are, and why."""
    if reasons := Counter(lost[i] for i in listed if i in lost):
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        print(f"{source}: {reasons.total()} of {len(listed)} rows are left out: {counts}", file=sys.stderr)
    return [i for i in listed if i not in lost]


def _read_densities(path: Path, rows: Sequence[Row], column: str) -> list[int]:
    """Read the densities of some rows, counted from 0."""
    values = read_integers(path, rows, column)
    for row, value in zip(rows, values):
        if value not in DENSITIES:
            allowed = f"{DENSITIES[0]} to {DENSITIES[-1]}, or {MALE}, which is left out"
            raise InputError(f"{locate(path, row, column)}: {value}; allowed: {allowed}")
    return [value - DENSITIES[0] for value in values]


def _read_splits(listings: Sequence[Listing], images: Sequence[str], seed: int) -> list[Split]:
    """Return the split of each image, from a column ``split`` or else from a hash of its patient."""
    path, column, rows = _read_rows(listings, images, "empi_anon")
    for row in rows:
        if is_gap(row.cells[column]):
            raise InputError(f"{locate(path, row, column)}: empty; name the patient")
    patients = [_simplify(row.cells[column]) for row in rows]
    if not any(listing.table.find("split") for listing in listings):
        return [assign_split(patient, seed) for patient in patients]
    path, column, rows = _read_rows(listings, images, "split")
    known: tuple[Split, ...] = get_args(Split)
    splits = [known[i] for i in read_labels(path, rows, column, known)]
    first: dict[str, tuple[Split, Row]] = {}
    for patient, split, row in zip(patients, splits, rows):
        other, earlier = first.setdefault(patient, (split, row))
        if split != other:
            raise InputError(
                f"{path}, line {row.line}: patient {patient!r} is in split {split!r}, "
                f"but in {other!r} on line {earlier.line}"
            )
    return splits


def _list_split(listings: Sequence[Listing], images: Sequence[str], seed: int, split: Split) -> list[int]:
    """Return the indices of the images in a split."""
    return [i for i, part in enumerate(_read_splits(listings, images, seed)) if part == split]


def _simplify(text: str) -> str:
    """Return a cell without spaces around it, and ``7`` for ``7.0``, in which two programs may differ."""
    return re.sub(r"^(\d+)\.0+$", r"\1", text.strip())
