"""The command that adds to older checkpoints what their training data said."""

import sys
from pathlib import Path

import pytest
import torch

from dscm import checkpoint
from dscm.cli.support import main
from tests.support.scripts import TrainingRun

CPU = torch.device("cpu")


def test_an_older_checkpoint_gets_what_its_training_would_have_written(
    spatial_run: TrainingRun, data_arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same split, with the same draws; nothing else changes."""
    old = tmp_path / "old.pt"
    content = torch.load(spatial_run.checkpoint, weights_only=True)
    torch.save({name: value for name, value in content.items() if name != "support"}, old)
    assert checkpoint.restore_image(old, CPU).support is None
    monkeypatch.setattr(sys, "argv", ["support", str(old), *map(str, data_arguments)])
    main()
    mine, theirs = (checkpoint.read(path, "image") for path in (old, spatial_run.checkpoint))
    assert mine.keys() == theirs.keys()
    for entry in ("rows", "counts"):
        assert torch.equal(mine["support"][entry], theirs["support"][entry])
    assert mine["support"]["n"] == 40
    assert mine["support"]["bandwidths"] == theirs["support"]["bandwidths"]
    assert all(torch.equal(mine["model"][name], value) for name, value in theirs["model"].items())


def test_another_file_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["support", str(tmp_path / "none.pt")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and capsys.readouterr().err == f"error: {tmp_path / 'none.pt'}: no such checkpoint\n"
