"""How a script starts and ends: on any console, and whatever stops it is one line and an exit code."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

import torch

from dscm.errors import InputError
from dscm.machine import is_first_to_fail

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130  # exit codes
SMALLER = "a smaller --batch takes less"


@contextmanager
def one_line_errors(show: Callable[[str], str]) -> Iterator[None]:
    """Turn what stops a script into one line on standard error and an exit code; of torchrun's processes, one speaks.

    Input that is refused exits with 2, a file or memory that cannot be had with 1, Ctrl-C and the signal that ends a
    job with 130. Anything else is a mistake of the program, and passes.

    Args:
        show: writes a setting as it is typed.

    Raises:
        SystemExit: with the exit code.
    """
    _prepare_console()
    before = _interrupt_on_end()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on the metadata of images
            yield
        sys.stdout.flush()  # a full disk is noticed here rather than after the last line of the script
    except InputError as error:
        _stop(WRONG_INPUT, error.typed(show))
    except KeyboardInterrupt as error:
        _stop(INTERRUPTED, str(error) or "interrupted")
    except BrokenPipeError:
        _leave_pipe()
        sys.exit(FAILED)
    except Exception as error:
        reason = _explain(error)
        if reason is not None:
            _stop(FAILED, reason)
        if not is_first_to_fail():
            sys.exit(FAILED)  # a process that failed before has told why
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def typed_command(add: str = "", drop: str = "") -> str:
    """Write the command that was typed, under torchrun with its number of processes.

    Args:
        add: a flag to add, unless it is there.
        drop: a flag to leave out.
    """
    script, *words = sys.argv
    words = [word for word in words if word != drop]
    words += [add] * (add != "" and add not in words)
    installed = not script.endswith(".py")
    start = [] if installed else ["python"]
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        start = ["torchrun", "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "N")] + ["--no-python"] * installed
    line = [*start, Path(script).stem if installed else script, *words]
    return subprocess.list2cmdline(line) if sys.platform == "win32" else shlex.join(line)


def _stop(code: int, line: str) -> None:
    """Write the line, unless another process has written one, and exit."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends this process as soon as another has gone
    if is_first_to_fail():
        print(f"error: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(code)


def _explain(error: BaseException) -> str | None:
    """Say in a line why a file or memory could not be had; None for any other error."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename is not None else reason
    if isinstance(error, BrokenProcessPool):
        return "a process that read images was ended from outside, most likely for lack of memory"
    scarce = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
    if scarce or "out of memory" in str(error):
        return f"out of memory; {SMALLER}"
    return None


def _prepare_console() -> None:
    """Let a console that lacks a character, as in cp1252 or ASCII, show its code instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_pipe() -> None:
    """Drop what is left to write: the reader of a pipe, such as ``head``, has gone, and Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt_on_end() -> Callable[[int, FrameType | None], object] | int | None:
    """Let the signal by which schedulers end a job act as Ctrl-C does, so that files are cleaned up.

    Returns:
        The handler to restore; None where it could not be changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt
