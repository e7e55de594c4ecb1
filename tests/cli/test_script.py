"""How scripts end: one line and an exit code, on any console, from one process of several."""

import io
import os
import signal
import sys
import warnings
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta

import pytest
import torch
from torch import distributed

from dscm.cli.script import one_line_errors, typed_command
from dscm.errors import InputError, option
from dscm.machine import is_first_to_fail


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError(f"{option('steps')} 0: must\nbe more"), 2, "--steps 0: must be more"),
        (OSError(28, "No space left on device", "out/a.png"), 1, "out/a.png: No space left on device"),
        (PermissionError(13, "Permission denied", b"out"), 1, "b'out': Permission denied"),
        (OSError("nothing is there"), 1, "nothing is there"),
        (MemoryError(), 1, "out of memory; a smaller --batch takes less"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried …"), 1, "out of memory; a smaller --batch takes less"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"), 1, "out of memory; a smaller"),
        (BrokenProcessPool(), 1, "a process that read images was ended from outside"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("stopped; go on with --resume"), 130, "stopped; go on with --resume"),
    ],
)
def test_one_line_and_a_code(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors(lambda name: f"--{name}"):
        raise error
    out, err = capsys.readouterr()
    assert stop.value.code == code and not out
    assert err.startswith(f"error: {line}") and err.count("\n") == 1, err


def test_what_pillow_remarks_is_not_shown(recwarn: pytest.WarningsRecorder) -> None:
    """Of metadata that nobody reads; other warnings are."""
    with one_line_errors(str):
        warnings.warn_explicit("Corrupt EXIF data", UserWarning, "TiffImagePlugin.py", 982, "PIL.TiffImagePlugin")
        warnings.warn_explicit("overflow", RuntimeWarning, "metrics.py", 1, "dscm.evaluation.metrics")
    assert [str(warning.message) for warning in recwarn] == ["overflow"]


def test_the_end_of_a_job_interrupts_and_the_handler_returns() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop, one_line_errors(str):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert stop.value.code == 130 and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_console_shows_any_text(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also names of files that are no UTF-8."""
    console = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", console)
    with one_line_errors(str):
        print("ω=3 → p∅ \udcff.png")
    shown = console.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert shown.endswith("\\udcff.png\n") and ("ω=3 → p∅" if encoding == "utf-8" else "\\u03c9=3 \\u2192") in shown


def test_of_several_processes_the_first_to_fail_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is; before they meet, without a store of torchrun's, that is the first."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=10))
    settings = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert not is_first_to_fail()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert [is_first_to_fail() for _ in range(3)] == [True, False, False]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert is_first_to_fail()
    monkeypatch.setenv("MASTER_PORT", "nowhere")
    assert is_first_to_fail()


def test_the_command_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--out", "a b", "--overwrite"])
    assert typed_command() == "python train.py --out 'a b' --overwrite"
    resumed = "train.py --out 'a b' --resume"
    assert typed_command(add="--resume", drop="--overwrite") == f"python {resumed}"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert typed_command(add="--resume", drop="--overwrite") == f"torchrun --nproc-per-node 2 {resumed}"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dscm-train", "--resume"])
    assert typed_command(add="--resume") == "torchrun --nproc-per-node 2 --no-python dscm-train --resume"
