"""Give the three scripts inputs that are wrong in every way, and check that each ends as it should.

    python tests/stress/fuzz.py --n 300 --seed 0
    python tests/stress/fuzz.py --seed 0 --only 17 --show

A case ends within a time, with exit code 0, 1 or 2, with at most one line ``error: …``, without a traceback or a
warning of a library, and leaves no file half written. The exit code is 1 if one does not. Each runs in a child of this
process, which has imported PyTorch already. For Linux.
"""

import argparse
import csv
import io
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import folders
import inputs
import numpy as np
import torch
import words
from PIL import Image
from stage import Case, Stage

from dscm.cli import counterfactual, evaluate, train

SCRIPTS = {"counterfactual": counterfactual.main, "train": train.main, "evaluate": evaluate.main}
KINDS = {**inputs.KINDS, **folders.KINDS, **words.KINDS}
LIMIT = 60  # seconds
MEMORY = 10 * 2**30  # bytes of addresses
CRASHED = 99  # exit code of a traceback
Files = dict[Path, tuple[int, int]]  # modification time and size


class End(NamedTuple):
    """How a script ended: its exit code, negative for a signal, and what it wrote."""

    code: int
    out: str
    err: str


def call(case: Case, home: Path) -> End:
    """Run a script in a child of this process."""
    out, err = home / "stdout", home / "stderr"
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _become_script(case, home, out, err)
    end = time.monotonic() + LIMIT
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            break
        time.sleep(0.005)
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
    return End(os.waitstatus_to_exitcode(status), *texts)


def _become_script(case: Case, home: Path, out: Path, err: Path) -> None:
    """Turn this process into the script; it never returns."""
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(stream, "w"), "utf-8") for stream in (1, 2))
    os.chdir(home)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if case.room:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (case.room, case.room))
    sys.argv = [f"{case.script}.py", *case.words]
    code = CRASHED
    try:
        SCRIPTS[case.script]()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def judge(case: Case, end: End, home: Path, before: Files) -> Iterator[str]:
    """Yield what is wrong with the end of a case."""
    lines = [line for line in re.split(r"[\r\n]+", end.err) if line]
    errors = [line for line in lines if line.startswith("error: ")]
    if "Traceback" in end.err + end.out:
        yield f"a traceback: {lines[-1]}"
    elif end.code not in (0, 1, 2):
        yield "too slow" if end.code == -signal.SIGKILL else f"exit code {end.code}"
    if len(errors) > 1 or (end.code == 2 and len(errors) != 1) or (end.code == 0 and errors):
        yield f"{len(errors)} lines of error with exit code {end.code}"
    if end.code == 1 and not lines:
        yield "exit code 1, and not a word"
    if any(not line.removeprefix("error:").strip(" .:") for line in errors):
        yield "an error without words"
    for line in lines:
        if re.search(r"Warning: |^\w*Error\b|\x1b", line):
            yield f"a library's message: {line}"
    if case.expected != "either" and (end.code == 0) != (case.expected == "fine"):
        yield f"exit code {end.code}, but the input is {case.expected}"
    for path, state in snapshot(home).items():
        if path.name.startswith(".unfinished-"):
            yield f"left behind: {path.relative_to(home)}"
        elif before.get(path) != state and (reason := _spoilt(path)):
            yield f"{path.relative_to(home)}: {reason}"


def snapshot(folder: Path) -> Files:
    """Return the state of every file in a folder."""
    found = (Path(here, name) for here, _, names in os.walk(folder) for name in names)
    states = ((path, path.lstat()) for path in found)
    return {path: (state.st_mtime_ns, state.st_size) for path, state in states}


def _spoilt(path: Path) -> str | None:
    """Say what is wrong with a file that a script wrote; None if nothing is."""
    try:
        if path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix in (".npy", ".npz"):
            np.load(path)
        elif path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                widths = {len(row) for row in csv.reader(file)}
            if len(widths) != 1:
                return f"rows of {sorted(widths)} cells"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def try_case(stage: Stage, seed: int, number: int, kind: str, show: bool) -> tuple[End, list[str]]:
    """Make one case, run it and judge it; returns its end and its faults."""
    rng = random.Random(f"{seed} {number} {kind}")
    home = stage.root / "case"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    case = KINDS[kind](stage, rng, home)
    before = snapshot(home)
    end = call(case, home)
    faults = [*judge(case, end, home, before)]
    typed = f"{case.script}.py {shlex.join(case.words)}".encode("utf-8", "backslashreplace").decode()
    if show:
        print(f"[{number}] {kind}: {typed}\n  → {end.code}\n{end.out}{end.err}")
    for fault in faults:
        print(f"FAULT seed {seed} case {number} ({kind}): {fault} | {typed}", flush=True)
    return end, faults


def run(
    folder: Path, seed: int, numbers: Iterable[int], show: bool = False, kinds: Sequence[str] = tuple(KINDS)
) -> tuple[Counter[tuple[str, int]], int]:
    """Run some cases.

    Args:
        folder: where the files are prepared, or were.
        seed: of the cases.
        numbers: which cases.
        show: print all that the scripts print.
        kinds: of the cases, in turn.

    Returns:
        How often each kind ended with each exit code, and the number of cases with faults.
    """
    stage = Stage(folder.resolve(), lambda script, words: call(Case(script, words), folder.resolve()).code)
    if not stage.noise.exists():
        stage.prepare()
    ends: Counter[tuple[str, int]] = Counter()
    faulty = 0
    for number in numbers:
        kind = kinds[number % len(kinds)]
        end, faults = try_case(stage, seed, number, kind, show)
        ends[kind, end.code] += 1
        faulty += bool(faults)
    shutil.rmtree(stage.root / "case", ignore_errors=True)
    return ends, faulty


def main() -> None:
    """Run the cases, and print the faults and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300, help="number of cases (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: 0)")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=[*KINDS], help="of the cases (default: all)")
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--show", action="store_true", help="print all that the scripts print")
    parser.add_argument("--keep", type=Path, help="prepare in this folder, or use what is prepared there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        numbers = range(args.n) if args.only is None else [args.only]
        ends, faulty = run(args.keep or Path(temporary), args.seed, numbers, args.show, args.kinds)
    for kind in KINDS:
        counts = ", ".join(f"{n} × {code}" for (other, code), n in sorted(ends.items()) if other == kind)
        print(f"{kind:<12} exit codes: {counts or 'none'}")
    print(f"{sum(ends.values())} cases, {faulty} with faults")
    sys.exit(faulty > 0)


if __name__ == "__main__":
    main()
