"""The command that chooses a model's guidance on validation images."""

import shutil
import sys
from pathlib import Path

import pytest

from dscm import checkpoint
from dscm.cli import guidance
from tests.support.scripts import TrainingRun

FEW = ("--n", "2", "--steps", "1", "--weights", "2", "--intervals", "0:1000", "--threads", "1")


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Run the command without LPIPS."""
    monkeypatch.setattr(guidance, "load_lpips", lambda device: (None, "absent"))
    monkeypatch.setattr(sys, "argv", ["guidance", *map(str, words)])
    guidance.main()


def test_choices_are_kept_beside_what_the_checkpoint_has(
    spatial_run: TrainingRun,
    data_arguments: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a table of each intervention."""
    path = Path(shutil.copy(spatial_run.checkpoint, tmp_path / "model.pt"))
    checkpoint.add_sampling(path, {"solver": "ddim", "guidance": "9"})
    call(monkeypatch, path, *FEW, "--keep", *data_arguments)
    out = capsys.readouterr().out
    for name in ("thickness", "intensity", "digit", "slant"):
        assert out.count(f"do({name}): 2 ") == 1
    assert out.count("| 2 | 0 to 1000 |") == 4 and "--guidance do=2,others=1 --guidance-interval 0:1000" in out
    wanted = {"solver": "ddim", "steps": 1, "guidance": "do=2,others=1", "guidance_interval": (0.0, 1000.0)}
    assert checkpoint.read(path, "image")["sampling"] == wanted


@pytest.mark.parametrize(
    ("kept", "words", "message"),
    [
        ({}, ("--intervals", "5:1"), "--intervals: '5:1' must be LOW:HIGH, two numbers in order"),
        ({}, ("--intervals", "digit=1:2,others=1:2"), "must be LOW:HIGH"),
        ({}, ("--set", "guidance=3"), "--set guidance=3: must be NAME=VALUE; names are grid"),
        ({"abduction": "residual"}, (), "abduction residual: depends on guidance; it is chosen for semantic abduction"),
    ],
)
def test_refused_in_one_line(
    spatial_run: TrainingRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kept: dict[str, str],
    words: tuple[str, ...],
    message: str,
) -> None:
    path = Path(shutil.copy(spatial_run.checkpoint, tmp_path / "model.pt"))
    checkpoint.add_sampling(path, kept)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, path, *words)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
