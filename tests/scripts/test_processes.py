"""The three scripts under torchrun: two processes share the work, one writes, and all is as if one had done it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm import checkpoint
from tests.support.evaluation import read_records
from tests.support.in_two import InTwo
from tests.support.scripts import Done, call_script


@pytest.fixture(scope="module")
def commands(in_two: InTwo) -> dict[str, tuple[Any, ...]]:
    """What is run, by name."""
    return in_two.commands


@pytest.fixture(scope="module")
def shared(in_two: InTwo) -> tuple[Path, dict[str, Done]]:
    """The folder of what two processes wrote, and what the first of them said."""
    return in_two.finish()


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
    assert files == read_files(folder / "query") and len(files) == 4 + 4
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
