"""Names of the files of answers: legal on every system, short enough, and different wherever their texts are."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from dscm.data.listing import PASTED, SHEET

ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # of Windows, exFAT and network shares
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows
DOUBTFUL, EXPLAINED = "doubtful", "explained"
RESULTS = (  # beside the pictures
    *("counterfactuals.csv", "trust.csv", "command.json", ".finished"),
    *(SHEET, PASTED, DOUBTFUL, EXPLAINED),
)
LONGEST_PICTURE, LONGEST_QUERY = 140, 80  # bytes; with the rest of the name, below the 255 of most file systems
TAG = 6  # hexadecimal digits that tell names apart


class Layout:
    """Name the files of answers in an output folder.

    Args:
        out: the folder.
        paths: the images, relative to their folder.
        queries: the texts of the queries, all different.
        strict: keep pictures of doubtful answers apart.
    """

    def __init__(self, out: Path, paths: Sequence[Path], queries: Sequence[str], strict: bool = False) -> None:
        self.strict = strict
        self.out, self.pictures, self.queries = out, name_pictures(paths), name_queries(queries)

    def picture(self, path: Path, query: str, doubtful: bool = False) -> Path:
        """Name the picture of an image under a query."""
        name, folder = self.pictures[path], self.out / DOUBTFUL if doubtful and self.strict else self.out
        return folder / name.with_name(f"{name.name}__{self.queries[query]}.png")

    def page(self, path: Path, suffix: str) -> Path:
        """Name the page that explains the answers about an image."""
        name = self.pictures[path]
        return self.out / EXPLAINED / name.with_name(f"{name.name}{suffix}")

    def is_there(self, path: Path, query: str) -> bool:
        """Tell whether the picture of an image under a query was written, wherever it is kept."""
        return any(self.picture(path, query, doubtful).is_file() for doubtful in (False, True))

    def pasted(self, path: Path, query: str) -> Path:
        """Name the original of an image with the changes of a query."""
        name = self.pictures[path]
        return self.out / PASTED / self.queries[query] / name.with_name(f"{name.name}.png")


def name_queries(texts: Sequence[str]) -> dict[str, str]:
    """Name each query for use in file names.

    Args:
        texts: different queries, such as ``thickness=*0.9`` or ``digit=@wished.csv:class__direct``.
    """
    return _distinguish(texts, [lambda text: make_legal(_abridge(text), LONGEST_QUERY)])


def name_pictures(paths: Iterable[Path]) -> dict[Path, Path]:
    """Name each image's pictures by its path without the suffix, which is kept where two names would collide.

    Args:
        paths: different paths, relative to the folder of the images.
    """
    by_text = {path.as_posix(): path for path in paths}
    forms = [lambda text: _legal_path(str(PurePosixPath(text).with_suffix(""))), _legal_path]
    names = _distinguish([*by_text], forms)
    return {path: Path(names[text]) for text, path in by_text.items()}


def make_legal(text: str, longest: int) -> str:
    """Make a text the name of a file on every system.

    Args:
        text: the text; characters that some system forbids become ``-``, and ``*`` becomes ``x``.
        longest: bytes of the name in UTF-8; a longer one is cut, and ends with a hash of the text.
    """
    name = ILLEGAL.sub("-", text.replace("*", "x")).rstrip(" .") or "-"
    name = f"-{name}" if RESERVED.fullmatch(name) else name
    return name if len(_bytes(name)) <= longest else _cut(name, longest - TAG - 1) + _tag(text)


def _legal_path(text: str) -> str:
    """Make every part of a relative path legal, and the first none that a result has."""
    first, *rest = [make_legal(part, LONGEST_PICTURE) for part in text.split("/")]
    return "/".join([f"-{first}" if first.casefold() in RESULTS else first, *rest])


def _abridge(text: str) -> str:
    """Leave the folders out of the sources of a query, ``@folder/values.csv:column``."""
    return re.sub(r"@[^,]*[/\\]", "@", text)


def _distinguish(texts: Sequence[str], forms: Sequence[Callable[[str], str]]) -> dict[str, str]:
    """Name each text in the first form in which no other text has its name, or else with a hash of the text."""
    names: dict[str, str] = {}
    for form in (*forms, lambda text: forms[-1](text) + _tag(text)):
        rest = {text: form(text) for text in texts if text not in names}
        taken = Counter(_fold(name) for name in [*names.values(), *rest.values()])
        names |= {text: name for text, name in rest.items() if taken[_fold(name)] == 1}
    return _in_order(texts, names)


def _in_order(texts: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the names in the order of the texts."""
    return {text: names[text] for text in texts}


def _fold(name: str) -> str:
    """Return what names have in common that some systems take for one: case, and how letters are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _cut(name: str, longest: int) -> str:
    """Cut a name to a number of bytes, between characters."""
    while len(_bytes(name)) > longest:
        name = name[:-1]
    return name


def _tag(text: str) -> str:
    """Make a short suffix that only this text has."""
    return f"~{hashlib.sha256(_bytes(text)).hexdigest()[:TAG]}"


def _bytes(text: str) -> bytes:
    """Encode a name as Linux does, whose names need not be UTF-8."""
    return text.encode(errors="surrogateescape")
