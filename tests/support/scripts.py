"""Running the scripts: inside this process, which spares the seconds of importing torch, or as a user does."""

import contextlib
import csv
import io
import os
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dscm import assets

ROOT = Path(__file__).parents[2]
MACHINE = ("--device", "cpu", "--threads", 1)
FAST = ("--steps", 3, *MACHINE)  # of counterfactual.py
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--")
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class TrainingRun:
    """A finished run of train.py: its folder, its settings, and what it printed."""

    folder: Path
    settings: tuple[Any, ...]
    stdout: str

    @property
    def checkpoint(self) -> Path:
        """The checkpoint."""
        return self.folder / "checkpoint.pt"


def call_script(name: str, *args: object) -> Done:
    """Run a script inside this process."""
    before, out, err, code = sys.argv, io.StringIO(), io.StringIO(), 0
    sys.argv = [name, *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(ROOT / name), run_name="__main__")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before
    return Done((name, *args), code, out.getvalue(), err.getvalue())


def start_script(*command: object) -> subprocess.Popen[str]:
    """Start `python NAME ARGS…` in the repository and return the process."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run_script(*command: object, timeout: float | None = 300) -> Done:
    """Run `python NAME ARGS…` in the repository to its end."""
    process = start_script(*command)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Done(command, process.returncode, stdout, stderr)


def succeed(done: Done) -> Done:
    """Check that a script did what it was told, and return what it printed."""
    assert done.returncode == 0, done.stderr
    return done


def refuse(name: str, *args: object) -> str:
    """Run a script inside this process, check that it refuses its input properly, and return the error's line."""
    done = call_script(name, *args)
    assert done.returncode == 2, done.stderr
    return the_error(done.stderr)


def the_error(stderr: str) -> str:
    """Check that standard error is one line `error: …`, or argparse's usage and then one, and return that line."""
    lines = [line for line in re.split(r"[\r\n]+", stderr) if line]
    assert lines, "nothing on standard error"
    if lines[0].startswith("usage: "):
        assert re.match(r"\w+\.py: error: ", lines[-1]), stderr
        assert sum("error: " in line for line in lines) == 1, stderr
    else:
        assert len(lines) == 1 and lines[0].startswith("error: "), stderr
    return lines[-1]


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_table(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write attributes.csv."""
    with open(folder / "attributes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def copy_digits(folder: Path, names: list[str], attributes: bool = True) -> Path:
    """Copy the first bundled digits under other names, with their rows of attributes.csv."""
    rows = read_table(assets.DIGITS / "attributes.csv")[: len(names)]
    for name, row in zip(names, rows):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(assets.DIGITS / row["image"]) as image:
            image.save(folder / name)
        row["image"] = name
    if attributes:
        write_table(folder, rows)
    return folder
