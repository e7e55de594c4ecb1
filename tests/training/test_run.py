"""A training in a folder: its log, and what it resumes from."""

import json
from pathlib import Path

import pytest
import torch

from dscm.checkpoint import restore_oracle
from dscm.errors import InputError
from dscm.machine import Machine
from dscm.training.log import check_state
from dscm.training.place import Place
from dscm.training.recipe import Recipe
from dscm.training.run import Log, Training
from tests.support.scripts import TrainingRun


def test_log_of_a_term_without_images(tmp_path: Path) -> None:
    """A loss that no image of any batch contributed to is unknown; it is not zero."""
    log = Log(tmp_path / "log.jsonl", 0)
    log.add({"loss": torch.tensor(2.0), "null": torch.tensor(float("nan"))})
    log.write(1, 0.0)
    record = json.loads((tmp_path / "log.jsonl").read_text())
    assert record["loss"] == 2 and record.get("null") is None


def test_a_log_keeps_the_whole_lines_up_to_its_step(tmp_path: Path) -> None:
    """Whatever else the file holds."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n[]\n5\n\xff\xfe\n{"loss": 2}\n' + b"[" * 100_000 + b'\n{"step": "a"}\n{"step": 9}')
    Log(path, 3)
    assert path.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    "state",
    [{"log_sums": 5}, {"log_sums": {"loss": torch.tensor(1.0)}}, {"log_sums": {"x": 1}, "log_counts": {"x": 1}}],
)
def test_sums_and_counts_belong_together(state: dict) -> None:
    check_state({})
    with pytest.raises((ValueError, TypeError, AttributeError)):
        check_state(state)


@pytest.mark.parametrize(("name", "value"), [("optimiser", {}), ("step", "four"), ("settings", 5), ("log_sums", 5)])
def test_a_damaged_checkpoint_is_not_resumed(
    oracle_run: TrainingRun, mnist_folder: Path, tmp_path: Path, name: str, value: object
) -> None:
    content = torch.load(oracle_run.checkpoint, weights_only=True)
    torch.save({**content, name: value}, tmp_path / "checkpoint.pt")
    place = Place("morphomnist", None, mnist_folder, (), tmp_path / "cache", tmp_path, None)
    recipe = Recipe(part="oracle", steps=9, batch=8, save_every=4)
    with pytest.raises(InputError, match="checkpoint.pt: damaged: its .* (readable|trained)"):
        training = Training(recipe, place, Machine(torch.device("cpu")), resume=True)
        training.start({"image": torch.zeros(8, 1, 28, 28, dtype=torch.uint8), "digit": torch.arange(8)})


def test_an_oracle_of_measured_attributes_has_nothing_to_predict(tmp_path: Path) -> None:
    """Neither to be trained, nor to judge what is tuned."""
    place = Place(data="pendulum", out=tmp_path / "out")
    for recipe in (Recipe(part="oracle"), Recipe(part="oracle", every=True), Recipe(mechanism="vae", fine_tune="v.pt")):
        with pytest.raises(InputError, match="pendulum: every attribute is measured; an oracle has nothing to predict"):
            Training(recipe, place, Machine(torch.device("cpu")))


def test_an_oracle_of_every_attribute_sees_more_than_strokes(mnist_folder: Path, tmp_path: Path) -> None:
    """It learns what is measured, too, from digits as they are drawn, and a checkpoint of it says so."""
    place = Place("morphomnist", None, mnist_folder, (), tmp_path / "cache", tmp_path / "out", None)
    training = Training(
        Recipe(part="oracle", every=True, steps=2, batch=8, trust=0), place, Machine(torch.device("cpu"))
    )
    training.fit()
    oracle = restore_oracle(tmp_path / "out" / "checkpoint.pt", torch.device("cpu")).model
    assert [*oracle.sizes] == ["thickness", "intensity", "digit", "slant"] and not oracle.strokes
