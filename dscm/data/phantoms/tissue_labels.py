"""Whose real mammograms are, and what is known of them: the images of a folder and a table of labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dscm.data.listing import list_images, name_image
from dscm.data.names import give_examples, match_rows
from dscm.data.table import Row, Table, locate, read_binary, read_csv, read_integers, read_labels
from dscm.errors import InputError

LABELS = "labels.csv"  # in the folder, unless another is named
WOMEN = ("woman", "patient", "empi_anon")  # columns, the first that there is
DENSITIES = ("tissueden", "density")  # 1 to 4
TISSUE = ("tissue", ("F", "G", "D"))  # mini-MIAS's three classes, fatty, glandular and dense, which count as 1, 2 and 3
CANCERS = ("is_positive", "cancer", "malignant")
USUAL_DENSITY, USUAL_CANCER = 2, 0  # where nothing is known


@dataclass(frozen=True)
class Mammogram:
    """A real mammogram.

    Args:
        image: its path, relative to the folder.
        woman: who she is, so that she is in one split.
        density: 1 to 4.
        cancer: 0 or 1.
    """

    image: Path
    woman: str
    density: int = USUAL_DENSITY
    cancer: int = USUAL_CANCER


def list_mammograms(folder: Path, labels: Path | None = None) -> tuple[list[Mammogram], list[str]]:
    """List the mammograms of a folder, sorted, and what is not known of them, in a sentence each.

    Args:
        folder: the images, in sub-folders too.
        labels: a table with the columns ``image``, relative to the folder, and ``woman``; optionally one of
            `DENSITIES` or ``tissue``, and one of `CANCERS`. None is `LABELS` in the folder, if it is there; without
            labels each image counts as a woman of its own.

    Raises:
        InputError: there are no images, the table is missing or damaged, lacks the woman, or names an image that is not
            there.
    """
    listing = list_images(folder)
    images = {name_image(path): path for path in listing.images}
    path = labels or folder / LABELS
    if labels is None and not path.is_file():
        words = "each image counts as a woman of its own, of density 2 and without cancer: two views of one may part"
        return [Mammogram(path, name) for name, path in images.items()], [*listing.notes, f"no {path}: {words}"]
    table = read_csv(path)
    found, extra = match_rows(path, table.rows, key := table.require("image"), [*images], folder)
    if extra:
        names = give_examples([row.cells[key] for row in extra])
        raise InputError(f"{path}: {len(extra)} rows name no image of {folder}: {names}")
    if not found:
        raise InputError(f"{path}: names no image of {folder}")
    kept = [name for name in images if name in found]
    lost = [name for name in images if name not in found]
    notes = [f"{path}: {len(lost)} images have no row: {give_examples(lost)}; left out"] if lost else []
    rows = [found[name] for name in kept]
    women = _read_women(table, rows)
    density, cancer = _read_densities(table, rows), _read_cancers(table, rows)
    for what, values, usual in (("density", density, USUAL_DENSITY), ("cancer", cancer, USUAL_CANCER)):
        if not values:
            notes.append(f"{path}: says nothing of {what}, which counts as {usual} in every image")
    facts = zip(kept, women, density or [USUAL_DENSITY] * len(kept), cancer or [USUAL_CANCER] * len(kept))
    mammograms = [Mammogram(images[name], woman, dense, ill) for name, woman, dense, ill in facts]
    return mammograms, [*listing.notes, *notes]


def _find_first(table: Table, names: Sequence[str]) -> str | None:
    """Return the first of some columns that a table has."""
    return next((column for name in names if (column := table.find(name))), None)


def _read_women(table: Table, rows: Sequence[Row]) -> list[str]:
    """Read who each mammogram is of."""
    column = _find_first(table, WOMEN)
    if column is None:
        raise table.lacks(WOMEN[0])
    for row in rows:
        if not row.cells[column].strip():
            raise InputError(f"{locate(table.path, row, column)}: empty; name the woman")
    return [row.cells[column].strip() for row in rows]


def _read_densities(table: Table, rows: Sequence[Row]) -> list[int]:
    """Read densities from 1 to 4; empty if the table does not say."""
    name, classes = TISSUE
    if column := _find_first(table, DENSITIES):
        values = read_integers(table.path, rows, column)
        for row, value in zip(rows, values):
            if not 1 <= value <= 4:
                raise InputError(f"{locate(table.path, row, column)}: {value}; allowed: 1 to 4")
        return values
    if column := table.find(name):
        return [1 + value for value in read_labels(table.path, rows, column, classes)]
    return []


def _read_cancers(table: Table, rows: Sequence[Row]) -> list[int]:
    """Read who has cancer, 0 or 1; empty if the table does not say."""
    column = _find_first(table, CANCERS)
    return read_binary(table.path, rows, column) if column else []
