"""Noise that is saved by one query and used by another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dscm import assets
from tests.support.scripts import FAST, call_script, refuse, succeed


@pytest.fixture(scope="module")
def saved(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the noise of the six digits, in batches of four and two, and a query's answer."""
    folder = tmp_path_factory.mktemp("saved")
    dynamic = ("--abduction", "dynamic", "--guidance", 3, "--batch", 4)
    paths = ("--out", folder / "out", "--save-noise", folder / "noise.zip")
    succeed(call_script("counterfactual.py", digits, "--do", "digit=3", *paths, *FAST, *dynamic))
    return folder


def ask(script: Callable[..., Any], images: Path, noise: Path, out: Path, *more: object) -> Any:
    """Query with saved noise."""
    settings = ("--load-noise", noise, "--out", out, *FAST, "--abduction", "dynamic", "--guidance", 3)
    return script("counterfactual.py", images, "--do", "digit=3", *settings, *more)


def test_loaded_noise_gives_the_same_pictures(
    saved: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without abducting again, in the batches of the file, and next to other queries."""
    monkeypatch.setattr("dscm.causal.scm.SCM.abduct", None)
    succeed(ask(call_script, digits, saved / "noise.zip", tmp_path / "out", "--do", "thickness=4"))
    for path in (saved / "out").glob("*__*.png"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "out").glob("*__thickness=4.png"))) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--checkpoint", assets.find("spatial")), "noise of another checkpoint"),
        (("--steps", 4), "noise abducted with steps 3, not 4"),
        (("--guidance", 1.5), "noise abducted with guidance 3, not 1.5"),
        (("--abduction", "residual"), "noise abducted with abduction dynamic, not residual"),
        (("--set", "cta_lr=1"), "noise abducted with alignment"),
    ],
)
def test_noise_of_other_settings_is_refused(
    saved: Path, digits: Path, tmp_path: Path, arguments: tuple, message: str
) -> None:
    assert message in ask(refuse, digits, saved / "noise.zip", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_noise_of_other_images_is_refused(saved: Path, digits: Path, tmp_path: Path) -> None:
    """Of other names, and of other pixels or attributes under the same names."""
    assert "noise of other images" in ask(refuse, assets.DIGITS, saved / "noise.zip", tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    for path in digits.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "0.png").write_bytes((digits / "1.png").read_bytes())
    assert "noise of other images" in ask(refuse, other, saved / "noise.zip", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_what_is_no_noise_is_refused(saved: Path, digits: Path, tmp_path: Path, content: bytes | None) -> None:
    """Nothing, something else, or a file torn in the middle."""
    path = tmp_path / "noise.zip"
    assert "no such file of noise" in ask(refuse, digits, path, tmp_path / "out")
    whole = (saved / "noise.zip").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "damaged, or not noise" in ask(refuse, digits, path, tmp_path / "out")
