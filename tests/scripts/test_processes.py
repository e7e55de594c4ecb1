"""The three scripts under torchrun: two processes share the work, one writes, and all is as if one had done it."""

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm import checkpoint
from tests.support.evaluation import read_records
from tests.support.scripts import FAST, MACHINE, ROOT, Done, TrainingRun, call_script, copy_digits, run_script

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--")
TRAIN = ("--mechanism", "spatial", "--patch", 4, "--batch", 8, "--steps", 4, "--set", "save_every=2")
SETTINGS = ("--n", 5, "--steps", 1, "--guidance", 3, "--batch", 3)
QUERY = ("--do", "thickness=5", "--batch", 2, *FAST)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three digits, and a last file that is none: of batches of two, the second has but one image."""
    folder = copy_digits(tmp_path_factory.mktemp("digits"), ["a.png", "b.png", "sub/c.png"], attributes=False)
    (folder / "empty.png").touch()
    return folder


@pytest.fixture(scope="module")
def commands(images: Path, spatial_run: TrainingRun, data_arguments: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """What is run, by name; the refusal last, since it leaves the other process waiting."""
    evaluation = ("--checkpoint", spatial_run.checkpoint, *SETTINGS, *data_arguments, *MACHINE)
    return {
        "train": ("train.py", *TRAIN, *data_arguments, *MACHINE),
        "query": ("counterfactual.py", images, *QUERY),
        "evaluate": ("evaluate.py", *evaluation),
        "keep": ("counterfactual.py", images, *QUERY, "--save-noise", images.parent / "noise.zip"),
    }


def find_ports(n: int) -> list[int]:
    """Find free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def shared(
    commands: dict[str, tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Done]]:
    """Run every command in two processes, and return the folder of their outputs and what the first process said."""
    folder = tmp_path_factory.mktemp("shared")
    ports = find_ports(len(commands))
    lines = [[port, *map(str, (*commands[name], "--out", folder / name))] for port, name in zip(ports, commands)]
    (folder / "commands.json").write_text(json.dumps(lines))
    done = run_script(*TORCHRUN, ROOT / "tests" / "support" / "several.py", folder / "commands.json")
    said = {}
    for number, name in enumerate(commands):
        path = folder / f"{number}-0.json"
        assert path.exists(), done.stderr
        report = json.loads(path.read_text())
        said[name] = Done(name, report["code"], report["stdout"], report["stderr"])
    return folder, said


@pytest.fixture(scope="module")
def alone(commands: dict[str, tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Run one of the commands in this process."""
    folder = tmp_path_factory.mktemp("alone")
    return lambda name: (folder / name, call_script(*commands[name], "--out", folder / name))


def read_files(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_makes_one_model(shared: tuple[Path, dict[str, Done]]) -> None:
    """One checkpoint and one log."""
    folder, said = shared
    assert said["train"].returncode == 0, said["train"].stderr
    records = [json.loads(line) for line in (folder / "train" / "log.jsonl").read_text().splitlines()]
    assert [(record["step"], "final" in record) for record in records] == [(2, False), (4, False), (4, True)]
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["checkpoint.pt", "log.jsonl"]
    content = torch.load(folder / "train" / "checkpoint.pt", weights_only=True)
    assert content["step"] == 4 and content["settings"]["world"] == 2
    checkpoint.restore_image(folder / "train" / "checkpoint.pt", torch.device("cpu"))  # no `module.` before names


def test_queries_give_the_same_files(shared: tuple[Path, dict[str, Done]], alone: Callable[[str], Any]) -> None:
    """Also which images could not be read."""
    folder, said = shared
    out, done = alone("query")
    assert done.returncode == said["query"].returncode == 1
    files = read_files(out)
    assert files == read_files(folder / "query") and len(files) == 3 + 2
    skipped = [
        [line for line in run.stderr.splitlines() if line.startswith("skipped ")] for run in (done, said["query"])
    ]
    assert skipped[0] == skipped[1] and len(skipped[0]) == 1


def test_evaluation_gives_the_same_numbers(shared: tuple[Path, dict[str, Done]], alone: Callable[[str], Any]) -> None:
    """In batches of 3 and 2, but for the clock."""
    folder, said = shared
    out, done = alone("evaluate")
    assert done.returncode == said["evaluate"].returncode == 0, said["evaluate"].stderr
    one, other = (
        [
            {name: value for name, value in record.items() if name != "seconds_per_image"}
            for record in read_records(path)
        ]
        for path in (out, folder / "evaluate")
    )
    assert one == other


def test_noise_is_kept_by_one_process(shared: tuple[Path, dict[str, Done]]) -> None:
    folder, said = shared
    assert said["keep"].returncode == 2 and "--save-noise: takes one process, without torchrun" in said["keep"].stderr
    assert not (folder / "keep").exists()
