"""Files that are written whole or not at all."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__version__ = "0.1.0"  # of the program that writes them
UNFINISHED = ".unfinished-"  # begins the temporary name of a file
READING = threading.Lock()  # of the umask, which two threads at once could leave at 0


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that becomes ``path`` when the block succeeds.

    A reader sees the old file or the new one, never half of either, whenever the process is killed.

    Args:
        path: the file to write; missing parent folders are made.

    Raises:
        OSError: it cannot be written; the error names it, not the temporary one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # PyTorch hides the error of its file
        if not isinstance(cause, OSError):
            raise
        if cause.errno and cause.filename in (None, name, temporary):
            cause.filename = str(path)
        raise cause from None
    finally:
        temporary.unlink(missing_ok=True)


def parse_json(text: str, make_object: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """Parse JSON of any origin.

    Args:
        text: the JSON.
        make_object: makes an object of its pairs.

    Raises:
        ValueError: it is not JSON, it is nested too deeply, a number has thousands of digits, or a text has half of a
            character, which no file in UTF-8 can hold.
    """
    try:
        value = json.loads(text, object_pairs_hook=make_object)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left of `atomic_path`, in a folder and its sub-folders."""
    for path in folder.rglob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


def _umask() -> int:
    """Read the process's umask; the system offers no way to read it without setting it."""
    with READING:
        mask = os.umask(0)
        os.umask(mask)
    return mask
