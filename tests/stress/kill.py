"""Kill each script at random moments, let it go on, and compare with one that was left alone.

    python tests/stress/kill.py --trials 20 --seed 0 [--processes 1 2] [--scripts train counterfactual evaluate]

Each trial starts a script, ends it by SIGKILL after a random share of its time, checks that no file is torn, and starts
it again until it comes to its end: all files must then be the same, byte for byte, but for the time that things took.
It prints a line for each script and number of processes, and exits with 1 if anything differed.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402 - once, before the children are forked
from PIL import Image  # noqa: E402

from dscm import assets  # noqa: E402
from tests.support import shapes  # noqa: E402

MACHINE = ("--threads", 1, "--device", "cpu")
TIMES = ("seconds", "seconds_per_image", "images_per_s", "training_minutes", "created")  # differ from run to run
PATIENCE = 300  # seconds for a script that is left alone


@dataclass(frozen=True)
class Case:
    """One script to kill: how it is started, and how it goes on."""

    script: str
    words: tuple[Any, ...]
    again: Callable[[Path], tuple[Any, ...]] = lambda out: ()


def start(script: str, words: Sequence[Any], processes: int, log: Path) -> list[int]:
    """Fork the processes of a script; returns their numbers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if not child:
            shared = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
            if processes > 1:
                os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in shared.items()}
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.argv = [f"{script}.py", *map(str, words)]
            code = 1
            try:
                import_module(f"dscm.cli.{script}").main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    return children


def finish(children: Sequence[int], timeout: float) -> int | None:
    """Wait for processes; returns the highest exit code, or kills them after a time and returns None."""
    end, left, code = time.monotonic() + timeout, set(children), 0
    while left and time.monotonic() < end:
        for child in [*left]:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                left.remove(child)
                code = max(code, os.waitstatus_to_exitcode(status))
        time.sleep(0.002)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return None if left else code


def read(path: Path) -> Any:
    """Read a file as what must be the same in every run; raises where it is torn."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
    if path.suffix == ".pt":
        return _without_times(torch.load(path, weights_only=True))
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [_without_times(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".npz":
        with np.load(path) as content:
            return {name: content[name].tobytes() for name in content if "seconds" not in name}
    if path.name == "metrics.md":
        return None  # it tells the time
    return path.read_bytes()


def _without_times(content: Any) -> Any:
    """Leave the times out, and make tensors comparable."""
    if isinstance(content, Mapping):
        return {name: _without_times(value) for name, value in content.items() if name not in TIMES}
    if isinstance(content, list | tuple):
        return [_without_times(value) for value in content]
    if isinstance(content, torch.Tensor):
        return (tuple(content.shape), content.dtype, content.numpy().tobytes())
    return content


def snapshot(folder: Path) -> dict[str, Any]:
    """Read every file of a folder."""
    return {str(path.relative_to(folder)): read(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def check_whole(folder: Path) -> None:
    """Raise where a killed script left a torn file under a final name."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            if path.suffix == ".jsonl":
                continue  # a log may end within a line, which is cut off when the training goes on
            read(path)
            if path.suffix == ".csv":
                with path.open(newline="", encoding="utf-8") as file:
                    rows = [*csv.reader(file)]
                assert all(len(row) == len(rows[0]) for row in rows), f"{path}: a torn row"


def try_case(case: Case, processes: int, trials: int, draw: random.Random, work: Path) -> tuple[int, list[str]]:
    """Kill a script so many times; returns how often it was killed before its end, and what went wrong."""
    whole, log = work / "whole", work / "log"
    began = time.monotonic()
    code = finish(start(case.script, [*case.words, "--out", whole], processes, log), PATIENCE)
    assert code == 0, f"{case.script} alone ended with {code}:\n{log.read_text()}"
    lasting, expected, faults, killed = time.monotonic() - began, snapshot(whole), [], 0
    for trial in range(trials):
        out = work / f"{trial}"
        words, log = [*case.words, "--out", out], work / f"{trial}.log"
        for moment in (draw.uniform(0, lasting), draw.uniform(0, lasting / 2), PATIENCE):
            again = case.again(out) if out.exists() else ()
            code = finish(start(case.script, [*words, *again], processes, log), moment)
            killed += code is None
            try:
                check_whole(out)
            except Exception as error:
                faults.append(f"trial {trial}, after {moment:.2f} s: {error}")
            if code is not None:
                break
        found = snapshot(out)
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if code != 0 or differing:
            faults.append(f"trial {trial}: exit code {code}, differs in {differing}; {log.read_text()[-400:]}")
        else:
            shutil.rmtree(out)
    shutil.rmtree(whole)
    return killed, faults


def resume_training(out: Path) -> tuple[Any, ...]:
    """Say how a training goes on: from its checkpoint, or from the beginning if there is none yet."""
    return ("--resume",) if (out / "checkpoint.pt").exists() else ("--overwrite",)


def prepare(work: Path) -> dict[str, Case]:
    """Train a small model of shapes, and say how each script is started."""
    images, run, log = work / "images", work / "run", work / "prepare.log"
    torch.set_num_threads(1)  # threads do not survive a fork
    shapes.write_set(images, 80)
    shared = ("--data", "folder", "--data-dir", images, "--graph", work / "graph.json", "--cache-dir", work / "cache")
    training = (*shared, "--mechanism", "semantic", "--batch", 8, *MACHINE)
    for part, steps in (("attributes", 20), ("oracle", 5), ("image", 4)):
        words = (*training, "--run", run, "--part", part, "--steps", steps)
        code = finish(start("train", words, 1, log), PATIENCE)
        assert code == 0, log.read_text()
    query = (
        assets.DIGITS,
        "--do",
        "digit=3",
        "--do",
        "thickness=*1.2",
        "--paste",
        "--batch",
        4,
        "--steps",
        2,
        *MACHINE,
    )
    rows = ("--run", run, "--n", 6, "--batch", 2, "--steps", 2, "--guidance", 1, 2, "--set", "oracle_accuracy=0")
    return {
        "train": Case("train", (*training, "--steps", 12, "--set", "save_every=3"), resume_training),
        "counterfactual": Case("counterfactual", query),
        "evaluate": Case("evaluate", (*rows, "--cache-dir", work / "cache", *MACHINE)),
    }


def main() -> int:
    """Run the trials, print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scripts", nargs="+", default=["train", "counterfactual", "evaluate"])
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        cases = prepare(Path(folder))
        for name in args.scripts:
            for processes in args.processes:
                work = Path(folder) / f"{name}-{processes}"
                work.mkdir()
                draw = random.Random(f"{args.seed} {name} {processes}")
                killed, faults = try_case(cases[name], processes, args.trials, draw, work)
                print(f"{name}, {processes} processes: {args.trials} trials, {killed} kills, {len(faults)} faults")
                for fault in faults:
                    print(f"  {fault}")
                failed += len(faults)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
