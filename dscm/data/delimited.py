"""Text of tables as spreadsheets and programs save it: in several encodings, and with several separators."""

import codecs
import csv
import io
import re
from pathlib import Path

from dscm.errors import InputError

SEPARATORS = (",", ";", "\t")
MARKS = {  # bytes that begin a file, and its encoding; those of UTF-32 begin like those of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
Line = tuple[int, list[str]]  # the number of a line, and its cells


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Bytes that are not UTF-8 become surrogates, because file names on Linux are bytes that need not be UTF-8; `repair`
    reads them as Windows would.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing or is not text.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise InputError(f"{path}: is not a file")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged {encoding.upper()}: {error.reason}; save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, line {line}: a NUL byte: not a text file in UTF-8, or in UTF-16 with its mark")
    return text


def repair(text: str) -> str:
    """Read text that is not UTF-8 as Windows-1252, in which Excel saves; other text is unchanged."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate from UTF-16
        return text
    except UnicodeDecodeError:
        return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def split_lines(path: Path, text: str) -> tuple[str, list[Line]]:
    """Split the text of a table into cells; lines that are blank or have only empty cells are skipped.

    Args:
        path: the file, named in error messages.
        text: its text. Commas, semicolons or tabs separate: whichever comes first in the header, or the one that
            Excel's line ``sep=;`` names.

    Returns:
        The separator, and the lines.

    Raises:
        InputError: the quotes are wrong, or a cell is too long.
    """
    first, _, rest = text.partition("\n")
    named = re.fullmatch('"?sep=([,;\t])"?\r?', first)
    separator = named[1] if named else _find_separator(first)
    reader = csv.reader(io.StringIO(rest if named else text, newline=""), delimiter=separator, strict=True)
    skipped = 1 if named else 0
    try:
        lines = [(reader.line_num + skipped, cells) for cells in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num + skipped}: not CSV: {error}") from error
    return separator, [(line, cells) for line, cells in lines if any(map(str.strip, cells))]


def _find_separator(header: str) -> str:
    """Return the separator that comes first in a header, outside of quotes; a comma if there is none."""
    bare = re.sub('"[^"]*"?', "", header)
    found = [separator for separator in SEPARATORS if separator in bare]
    return min(found, key=bare.index, default=",")
