"""The command that fits noise levels to checkpoints."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from dscm import checkpoint
from dscm.cli import defaults, levels
from dscm.diffusion.mechanism import DiffusionMechanism
from tests.support.scripts import TrainingRun


def test_checkpoints_get_the_same_levels(
    spatial_run: TrainingRun, data_arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as were asked for; settings that were kept stay, and they stay too."""
    paths = [Path(shutil.copy(spatial_run.checkpoint, tmp_path / name)) for name in ("a.pt", "b.pt")]
    checkpoint.add_sampling(paths[1], {"guidance": "2"})
    monkeypatch.setattr(sys, "argv", ["levels", *map(str, paths), "--steps", "12", *map(str, data_arguments)])
    levels.main()
    fitted = checkpoint.read(paths[0], "image")["sampling"]["levels"]
    assert len(fitted) == 13 and checkpoint.read(paths[1], "image")["sampling"] == {"guidance": "2", "levels": fitted}
    monkeypatch.setattr(sys, "argv", ["defaults", str(paths[1]), "--guidance", "3"])
    defaults.main()
    assert checkpoint.read(paths[1], "image")["sampling"] == {"levels": fitted, "guidance": "3"}
    model = checkpoint.restore_image(paths[1], torch.device("cpu")).model
    assert isinstance(model, DiffusionMechanism)
    assert model.sampling.count == 12 and model.using(steps=20).sampling.count == 20
    assert model.using(grid="log-sigma").sampling.spacing == "log-sigma"
