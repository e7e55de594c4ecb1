"""The command that keeps settings with a model."""

import shutil
import sys
from pathlib import Path

import pytest

from dscm import assets, load
from dscm.cli.defaults import main


def call(path: Path, *words: str) -> None:
    """Run the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["defaults", str(path), *words])
        main()


def test_settings_are_kept_and_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(shutil.copy(assets.find("spatial") or "", tmp_path / "model.pt"))
    call(path, "--guidance", "2", "--guidance-interval", "2", "50", "--set", "solver=ddim")
    sampling = load(path).mechanism.sampling
    assert str(sampling.weights) == "2" and sampling.guidance_interval == (2.0, 50.0) and sampling.solver == "ddim"
    assert "guidance=2 guidance_interval=(2.0, 50.0)" in capsys.readouterr().out
    call(path, "--guidance-interval", "digit=2:40,others=1:9")
    assert load(path).mechanism.sampling.guidance_interval == "digit=2:40,others=1:9"
    call(path)
    sampling = load(path).mechanism.sampling
    assert str(sampling.weights) == "1.5" and sampling.guidance_interval == (1.0, 1000.0), "the usual ones"


def test_settings_that_do_not_suit_the_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(shutil.copy(assets.find("spatial") or "", tmp_path / "model.pt"))
    before = path.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        call(path, "--guidance", "height=2")
    assert stopped.value.code == 2 and "height: not a parent of the image" in capsys.readouterr().err
    assert path.read_bytes() == before
