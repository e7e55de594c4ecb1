"""A training stops between two steps, and goes on as if it had not."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm.machine import Machine
from dscm.training.log import Log
from dscm.training.place import Place
from dscm.training.recipe import Recipe
from dscm.training.run import Training
from dscm.training.stopping import SIGNALS, stop_on_signal
from dscm.training.trainer import Trainer
from tests.support.scripts import MACHINE, TrainingRun, call_script


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_interrupts(number: int) -> None:
    wishes: list[int] = []
    handlers = [signal.getsignal(each) for each in SIGNALS]
    with stop_on_signal(lambda: wishes.append(1)):
        os.kill(os.getpid(), number)
        assert wishes == [1] and [signal.getsignal(each) for each in SIGNALS] == handlers
    with stop_on_signal(lambda: wishes.append(1), insist=False):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert len(wishes) == 3 and [signal.getsignal(each) for each in SIGNALS] == handlers


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_training_saves_and_goes_on_bit_for_bit(
    number: int,
    oracle_run: TrainingRun,
    train: Callable[..., TrainingRun],
    data_arguments: tuple[Any, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of an interval between two checkpoints, and between two lines of the log."""
    advance = Trainer.advance

    def advance_and_interrupt(self: Trainer) -> Any:
        if self.step == 1:
            os.kill(os.getpid(), number)
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", advance_and_interrupt)
        arguments = ("--out", tmp_path, "--batch", 8, *oracle_run.settings, *data_arguments, *MACHINE)
        done = call_script("train.py", *arguments)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 130 and f"{tmp_path / 'checkpoint.pt'} holds step 2; go on with: python " in last
    assert last.endswith(" --resume")
    again = train(tmp_path, *oracle_run.settings, "--resume")
    mine, other = (torch.load(run.checkpoint, weights_only=True) for run in (again, oracle_run))
    for part in ("raw", "model"):
        assert all(torch.equal(mine[part][name], other[part][name]) for name in other[part])
    logs = [[json.loads(line) for line in (run.folder / "log.jsonl").open()] for run in (again, oracle_run)]
    assert [{**line, "seconds": 0} for line in logs[0]] == [{**line, "seconds": 0} for line in logs[1]]


def test_a_log_goes_on_within_an_interval(tmp_path: Path) -> None:
    """And a score that is no number is null, since JSON has none."""
    whole = Log(tmp_path / "whole", 0)
    for value in (1.0, 2.0, 6.0):
        whole.add({"loss": torch.tensor(value)})
    half = Log(tmp_path / "half", 0)
    half.add({"loss": torch.tensor(1.0)})
    other = Log(tmp_path / "half", 1, half.state())
    other.add({"loss": torch.tensor(2.0)})
    other.add({"loss": torch.tensor(6.0)})
    assert other.write(3, 0.0) == whole.write(3, 0.0) == {"loss": 3.0}
    other.finish(3, 0.0, {"R²": float("nan")})
    assert json.loads((tmp_path / "half").read_text().splitlines()[-1]) == {"step": 3, "final": {"R²": None}}


def test_only_images_and_attributes_are_trained_on(tmp_path: Path) -> None:
    """Not the drawings, which a data set of digits also holds; nor is an attribute of that name dropped."""
    training = Training(Recipe(), Place(data="morphomnist", out=tmp_path), Machine(torch.device("cpu")))
    names = {variable.name for variable in training.graph.attributes}
    assert set(training.select(dict.fromkeys([*names, "image", "base"], torch.zeros(2)))) == {*names, "image"}
