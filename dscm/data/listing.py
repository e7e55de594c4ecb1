"""Which files of a folder are its images, and what is passed over."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dscm.data.images import SUFFIXES
from dscm.errors import InputError

SHEET, PASTED = "grid.png", "pasted"  # of a folder of answers, which are no images of it
RESULTS = (  # files by which a folder with results of this program is known
    {"command.json"},
    {"counterfactuals.csv"},
    {"metrics.json"},
    {"log.jsonl", "checkpoint.pt"},
    {"graph.json", "data.json"},
)
COMPANIONS = ".csv .tsv .txt .json .jsonl .md .xml .html .yaml .yml .log .ini .db .py .pt".split()  # nobody's images


@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Args:
        images: their paths relative to the folder, sorted.
        notes: what was passed over that the user may miss, in a line; empty if nothing was.
    """

    images: list[Path]
    notes: list[str]


def name_image(path: Path) -> str:
    """Write the path of an image with ``/`` between its parts, the same text whatever the locale of Python."""
    return path.as_posix().encode(errors="surrogateescape").decode(errors="surrogateescape")


def find_images(folder: Path | str) -> list[Path]:
    """List the images of a folder, as `list_images` does, without its notes."""
    return list_images(folder).images


def list_images(folder: Path | str) -> Listing:
    """List the images of a folder and its sub-folders, known by their suffix, except hidden ones and dscm's results.

    Links to folders are followed, but no folder is read twice, nor one that holds ``folder``. If ``folder`` itself
    holds results of this program, its contact sheet and its pasted images are left out.

    Args:
        folder: the folder.

    Raises:
        InputError: ``folder`` does not exist, is not a folder or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    walk = _Walk(folder)
    images = sorted(path.relative_to(folder) for path in walk.images())
    passed = [f"passed over: {', '.join(words)}" for words in [[*walk.passed_over()]] if words]
    if not images:
        looked = f"looked for {', '.join(SUFFIXES)}"
        raise InputError(f"{folder}: {'; '.join(['no images in it', looked, *passed])}")
    return Listing(images, [f"{folder}: {words}" for words in passed])


class _Walk:
    """One pass through a folder: its own sub-folders first, then those that links lead to.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        real = Path(os.path.realpath(root))
        self.seen = {str(parent) for parent in real.parents}
        self.links: list[str] = []
        self.suffixes: Counter[str] = Counter()
        self.results: list[str] = []
        self.repeated: list[str] = []
        self.locked: list[str] = []
        self.dangling: list[str] = []

    def images(self) -> Iterator[Path]:
        """Yield the paths of the images; afterwards `passed_over` knows the rest."""
        yield from self._read(self.root)
        while self.links:
            self.links.sort()
            yield from self._read(self.links.pop(0))

    def passed_over(self) -> Iterator[str]:
        """Yield in words what was passed over, with counts."""
        for suffix, n in sorted(self.suffixes.items()):
            yield f"{n} {suffix}" if suffix else f"{n} without a suffix"
        yield from _count(self.results, "folder with results of dscm", "folders with results of dscm")
        yield from _count(
            self.repeated, "link to a folder that is read already", "links to folders that are read already"
        )
        yield from _count(self.dangling, "entry that is no file, as a broken link is", "entries that are no files")
        yield from _count(self.locked, "folder that may not be read", "folders that may not be read")

    def _read(self, top: str) -> Iterator[Path]:
        """Yield the images of a folder and its own sub-folders, and note the links among them."""
        for here, folders, files in os.walk(top, onerror=lambda error: self.locked.append(str(error.filename))):
            inside = self._enter(here, folders, files)
            folders[:] = [name for name in folders if inside and not name.startswith(".")]
            linked = [name for name in folders if os.path.islink(os.path.join(here, name))]
            self.links += [os.path.join(here, name) for name in linked]
            for name in sorted(files) if inside else ():
                path = Path(here, name)
                if name.startswith("."):
                    continue
                if not path.is_file():
                    self.dangling.append(str(path))
                elif path.suffix.lower() in SUFFIXES:
                    yield path
                elif path.suffix.lower() not in COMPANIONS:
                    self.suffixes[path.suffix.lower()] += 1

    def _enter(self, here: str, folders: list[str], files: list[str]) -> bool:
        """Tell whether a folder is to be read; of one with results that is only so if the user names it."""
        real = os.path.realpath(here)
        if real in self.seen:
            self.repeated.append(here)
            return False
        self.seen.add(real)
        if not any(marks <= {*files} for marks in RESULTS):
            return True
        if here != self.root:
            self.results.append(here)
            return False
        files[:] = [name for name in files if name != SHEET]
        folders[:] = [name for name in folders if name != PASTED]
        return True


def _count(paths: list[str], one: str, several: str) -> Iterator[str]:
    """Yield a count of paths and the first of them, if there are any."""
    if paths:
        yield f"{len(paths)} {one if len(paths) == 1 else several} ({paths[0]}{', …' if len(paths) > 1 else ''})"
