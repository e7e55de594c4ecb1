"""Noise that is saved by one query and used by another."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm import assets
from dscm.errors import InputError
from dscm.folder.saved_noise import NoiseWriter, SavedNoise
from tests.support.scripts import FAST, MACHINE, call_script, refuse, succeed


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


def test_noise_of_another_command_is_not_taken_for_its_own(digits: Path, tmp_path: Path) -> None:
    """Where a second command has written the same file, the first one writes it again."""
    noise = tmp_path / "noise.zip"

    def keep(out: str, steps: int, *more: object) -> bytes:
        words = ("--do", "digit=3", "--steps", steps, "--guidance", 1, *MACHINE, "--save-noise", noise)
        succeed(call_script("counterfactual.py", digits, *words, "--out", tmp_path / out, *more))
        return noise.read_bytes()

    first = keep("a", 2)
    assert keep("b", 1, "--overwrite") != first
    assert keep("a", 2) == first


@pytest.mark.parametrize("name", ["grid.png", "counterfactuals.csv", "command.json", "x.JPG"])
def test_noise_is_not_named_like_a_result(digits: Path, tmp_path: Path, name: str) -> None:
    words = ("--do", "digit=3", *FAST, "--out", tmp_path / "out", "--save-noise", tmp_path / "out" / name)
    assert "is the name of a result or of an image" in refuse("counterfactual.py", digits, *words)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_what_is_no_noise_is_refused(saved: Path, digits: Path, tmp_path: Path, content: bytes | None) -> None:
    """Nothing, something else, or a file torn in the middle."""
    path = tmp_path / "noise.zip"
    assert "no such file of noise" in ask(refuse, digits, path, tmp_path / "out")
    whole = (saved / "noise.zip").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "damaged, or not noise" in ask(refuse, digits, path, tmp_path / "out")


ABOUT = {"format": 4, "checkpoint": "a", "images": ["0.png", "1.png"], "sampling": {}}
OBS = {"age": torch.tensor([1.0, 2.0]), "image": torch.zeros(2, 1, 2, 2)}


def write_noise(path: Path) -> Path:
    """Write the noise of two images."""
    writer = NoiseWriter(path, ABOUT, 2)
    writer.add(0, OBS, {"age": torch.zeros(2), "image": torch.zeros(2, 1, 2, 2)})
    writer.close()
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("noise"),
        lambda content: content.update(noise=[1]),
        lambda content: content["noise"].pop("age"),
        lambda content: content["noise"].update(other=torch.zeros(2)),
        lambda content: content["noise"].update(age="zero"),
        lambda content: content["noise"].update(age=("FlowNoise", 1, 2)),
        lambda content: content["noise"].update(age=("Unknown", torch.zeros(2))),
        lambda content: content["noise"].update(age=torch.zeros(3)),
        lambda content: content["noise"].update(age=torch.tensor(1.0)),
        lambda content: content["noise"].update(age=torch.tensor([1.0, float("nan")])),
        lambda content: content["noise"].update(age=torch.zeros(2, dtype=torch.bool)),
        lambda content: content["noise"].update(age=torch.zeros(2).to_sparse()),
    ],
)
def test_noise_of_another_form_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Before anything is answered, though the archive itself is whole."""
    path = write_noise(tmp_path / "noise.zip")
    SavedNoise(path, ABOUT).check([(0, OBS)])
    with zipfile.ZipFile(path) as archive:
        about, content = (
            archive.read("about.json"),
            torch.load(io.BytesIO(archive.read("000000.pt")), weights_only=True),
        )
    change(content)
    torch.save(content, tmp_path / "part")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json", about)
        archive.write(tmp_path / "part", "000000.pt")
    with pytest.raises(InputError, match="noise.zip: damaged, or not noise"):
        SavedNoise(path, ABOUT).check([(0, OBS)])


@pytest.mark.parametrize("batch", [0, -1, "2", 1.5, None])
def test_the_size_of_a_batch_is_a_number_of_images(tmp_path: Path, batch: object) -> None:
    with zipfile.ZipFile(tmp_path / "noise.zip", "w") as archive:
        archive.writestr("about.json", json.dumps({**ABOUT, "batch": batch}))
    with pytest.raises(InputError, match="noise.zip: damaged|batch"):
        SavedNoise(tmp_path / "noise.zip", ABOUT)


def test_a_finished_file_that_was_damaged_is_written_again(tmp_path: Path) -> None:
    """A command that goes on takes nothing from what is no archive, and refuses one whose bytes were changed."""
    path = write_noise(tmp_path / "noise.zip")
    assert NoiseWriter(path, ABOUT, 2).has(0)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x03\x04", 10) + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="noise.zip: damaged; remove it"):
        NoiseWriter(path, ABOUT, 2).open(resumed=True)
    path.write_bytes(b"hello")
    again = NoiseWriter(path, ABOUT, 2)
    again.open(resumed=True)
    assert not again.has(0)
