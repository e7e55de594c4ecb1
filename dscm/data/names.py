"""Names of images as tables write them, matched with the files of a folder."""

import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from dscm.data.delimited import repair
from dscm.data.table import Row
from dscm.errors import InputError

NAMED = 5  # names that a message gives as examples


class Names:
    """Bring names to the form in which those of a table and of a folder are the same.

    Args:
        folder: the folder of the images, from which absolute names lead.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = {_tidy(path.as_posix()) for path in (folder.absolute(), folder.resolve())}

    def normalise(self, name: str) -> str:
        """Return a name relative to the folder: composed (NFC), with ``/``, the suffix in lower case, without spaces.

        Args:
            name: a path as it stands in a table: perhaps decomposed, with backslashes, ``./`` or spaces around it.
        """
        path = _tidy(repair(name).strip().replace("\\", "/"))
        for root in self.roots:
            path = path.removeprefix(f"{root}/")
        stem, suffix = posixpath.splitext(path)
        return stem + suffix.lower()

    def find(self, name: str) -> str:
        """Return the spelling of a name that is a file of the folder; if none is, the normal form."""
        normal = self.normalise(name)
        stem, suffix = posixpath.splitext(normal)
        spellings = (name, normal, unicodedata.normalize("NFD", normal), stem + suffix.upper())
        return next((spelling for spelling in spellings if (self.folder / spelling).is_file()), normal)


def match_rows(
    path: Path, rows: Sequence[Row], column: str, images: Sequence[str], folder: Path
) -> tuple[dict[str, Row], list[Row]]:
    """Find the row of each image.

    Args:
        path: the table, named in error messages.
        rows: its rows.
        column: the column of the names. A name that is no image means the one with the same normal form.
        images: the images, relative to the folder.
        folder: the folder.

    Returns:
        The rows by image, and the rows that name no image.

    Raises:
        InputError: two rows name the same image, or a row may name two.
    """
    names, known = Names(folder), set(images)
    alike: dict[str, list[str]] = {}
    if any(row.cells[column] not in known for row in rows):
        for image in images:
            alike.setdefault(names.normalise(image), []).append(image)
    found: dict[str, Row] = {}
    extra = []
    for row in rows:
        written = row.cells[column]
        candidates = [written] if written in known else alike.get(names.normalise(written), [])
        if not candidates:
            extra.append(row)
            continue
        if len(candidates) > 1:
            either = " or ".join(map(repr, candidates[:NAMED]))
            raise InputError(f"{path}, line {row.line}: {written!r} may be {either}; write the name exactly")
        first = found.setdefault(candidates[0], row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {written!r} is already on line {first.line}")
    return found, extra


def give_examples(names: Sequence[str]) -> str:
    """List a few names, followed by an ellipsis if there are more."""
    return ", ".join([*map(repr, names[:NAMED]), *(["…"] if len(names) > NAMED else [])])


def _tidy(path: str) -> str:
    """Compose a path's letters, and drop what leads nowhere, such as ``./``."""
    return unicodedata.normalize("NFC", posixpath.normpath(path) if path else "")
