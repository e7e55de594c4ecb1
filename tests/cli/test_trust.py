"""The command that adds to older checkpoints what answers are compared with."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from dscm import assets, checkpoint
from dscm.cli.trust import main
from dscm.errors import InputError
from tests.support.scripts import TrainingRun


def test_an_older_checkpoint_gets_what_its_training_would_have_written(
    spatial_run: TrainingRun, data_arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same images, with the same draws; its oracle gets its errors; nothing else changes."""
    old, oracle = tmp_path / "old.pt", tmp_path / "oracle.pt"
    content = torch.load(spatial_run.checkpoint, weights_only=True)
    torch.save({name: value for name, value in content.items() if name != "reference"}, old)
    shutil.copy(assets.find("oracle") or "", oracle)
    monkeypatch.setattr(sys, "argv", ["trust", str(old), "--oracle", str(oracle), *map(str, data_arguments)])
    main()
    mine, theirs = (checkpoint.read(path, "image") for path in (old, spatial_run.checkpoint))
    assert mine.keys() == theirs.keys()
    assert torch.allclose(mine["reference"]["composition"], theirs["reference"]["composition"], atol=1e-5)
    assert mine["reference"]["identity"].keys() == theirs["reference"]["identity"].keys()
    judge = checkpoint.restore_oracle(oracle, torch.device("cpu")).reference
    assert judge and judge.errors.keys() == {"digit"} and judge.noise is None


def test_a_damaged_reference_is_told_in_a_line(spatial_run: TrainingRun, tmp_path: Path) -> None:
    content = torch.load(spatial_run.checkpoint, weights_only=True)
    content["reference"] = {**content["reference"], "composition": torch.tensor([2.0, 1.0])}
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="damaged"):
        checkpoint.restore_image(tmp_path / "bad.pt", torch.device("cpu"))
