"""Answers of particles: from Python and from the command line, alike."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import dscm
from dscm import assets
from dscm.data.scaling import to_levels
from dscm.errors import InputError
from dscm.model import Model
from tests.support.networks import scatter
from tests.support.scripts import MACHINE, TrainingRun, call_script, copy_digits, read_table, refuse, succeed

BRIEF = ("--steps", 2, "--guidance", 1, *MACHINE)
PARTICLES = ("--particles", 3)


@pytest.fixture(scope="module")
def model(semantic_run: TrainingRun) -> Model:
    """A semantic model whose code matters, at random."""
    model = dscm.load(semantic_run.checkpoint, guidance=1.0, steps=2)
    scatter(model.mechanism, std=0.05).float()
    return model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three digits with their attributes."""
    return copy_digits(tmp_path_factory.mktemp("images"), ["a.png", "b.png", "c.png"])


def test_particles_answer_with_mean_and_spread(model: Model, images: Path, tmp_path: Path) -> None:
    """The same in any order and batch; attributes are those of one particle, which itself is the usual answer."""
    one = model.counterfactual(images, {"digit": 3}, particles=1)
    usual = model.counterfactual(images, {"digit": 3})
    assert one.spread is None and torch.equal(one.predicted["image"], usual.predicted["image"])
    many = model.counterfactual(images, {"digit": 3}, particles=3)
    assert many.spread is not None and many.spread.shape == many.predicted["image"].shape
    assert many.spread.mean() > 0 and many.spread.max() <= 0.5 * 1.5**0.5
    assert all(torch.equal(many[name], one[name]) for name in one if name != "image")
    turned = [images / f"{name}.png" for name in "cab"]
    attributes = {name: many.obs[name][[2, 0, 1]] for name in many.obs if name != "image"}
    other = model.counterfactual(turned, {"digit": 3}, attributes=attributes, particles=3, batch=2)
    torch.testing.assert_close(other.spread, many.spread[[2, 0, 1]], rtol=0, atol=1e-4)
    torch.testing.assert_close(other.predicted["image"], many.predicted["image"][[2, 0, 1]], rtol=0, atol=1e-4)
    again = model.counterfactual(images, {"digit": 3}, particles=3, seed=1)
    assert not torch.equal(again.spread, many.spread), "another seed has other codes"
    many.save(tmp_path / "out")
    rows = read_table(tmp_path / "out" / "counterfactuals.csv")
    assert [float(row["spread"]) for row in rows] == pytest.approx(many.spread.mean(dim=(1, 2, 3)).tolist())
    assert many.plot().height == one.plot().height + 56, "a row for the spread"


def test_particles_of_a_mechanism_without_a_code(images: Path) -> None:
    with pytest.raises(InputError, match="particles 2: a spatial mechanism has no code to sample, so all would be"):
        dscm.load("morphomnist-spatial").counterfactual(images, {"digit": 3}, particles=2)


def test_the_command_s_answers_are_the_model_s(semantic_run: TrainingRun, images: Path, tmp_path: Path) -> None:
    """Pictures, table and sheet of two queries; the folder knows M, and one particle has no column."""
    asked = (images, "--do", "digit=3", "--do", "thickness=4", "--checkpoint", semantic_run.checkpoint, *BRIEF)
    succeed(call_script("counterfactual.py", *asked, *PARTICLES, "--paste", "--out", tmp_path / "out"))
    model = dscm.load(semantic_run.checkpoint, guidance=1.0, steps=2)
    answer = model.counterfactual(images, {"digit": 3}, particles=3)
    rows = read_table(tmp_path / "out" / "counterfactuals.csv")
    assert list(rows[0])[-2:] == ["l1", "spread"] and len(rows) == 6
    of_digit = [float(row["spread"]) for row in rows if row["query"] == "digit=3"]
    assert answer.spread is not None and of_digit == pytest.approx(answer.spread.mean(dim=(1, 2, 3)).tolist(), rel=1e-4)
    for name, image in zip("abc", to_levels(answer.predicted["image"])):
        with Image.open(tmp_path / "out" / f"{name}__digit=3.png") as file:
            written = torch.frombuffer(bytearray(file.tobytes()), dtype=torch.uint8).reshape(28, 28)
        assert (written.int() - image[0].int()).abs().max() <= 1
    with Image.open(tmp_path / "out" / "grid.png") as sheet:
        assert sheet.height > 8 * 56, "observation and composition, then answer, effect and spread of two queries"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    succeed(call_script("counterfactual.py", *asked, *PARTICLES, "--paste", "--out", tmp_path / "out"))
    assert before == {path: path.stat().st_mtime_ns for path in before}, "nothing is computed again"
    error = refuse("counterfactual.py", *asked, "--particles", 4, "--paste", "--out", tmp_path / "out")
    assert "holds answers with particles 3, not 4: name another folder" in error
    succeed(call_script("counterfactual.py", *asked, "--out", tmp_path / "one"))
    assert list(read_table(tmp_path / "one" / "counterfactuals.csv")[0])[-1] == "l1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--save-noise", "noise.zip"), "--save-noise: a file keeps one particle of each image; leave --particles out"),
        (("--load-noise", "noise.zip"), "--load-noise: a file keeps one particle of each image; leave"),
        (("--sample", 2), "--particles: has no effect with --sample; leave one of them out"),
        (("--particles", 0), "argument --particles: '0' must be an integer, at least 1, at most 10000"),
        (("--set", "sample_code=off"), "--particles 3: are samples of the code; leave --set sample_code out"),
        (("--checkpoint", assets.find("spatial")), "--particles 3: a spatial mechanism has no code to sample"),
    ],
)
def test_what_particles_exclude(images: Path, tmp_path: Path, arguments: tuple, message: str) -> None:
    asked = ("--do", "digit=3", "--out", tmp_path / "out", *BRIEF, *PARTICLES, *arguments)
    assert message in refuse("counterfactual.py", images, *asked)
    assert not (tmp_path / "out").exists()


def test_one_sample_of_the_code_is_kept_with_the_noise(images: Path, tmp_path: Path) -> None:
    """By sample_code, which one particle takes too: another picture than the mean code's, and noise of its own."""
    asked = (images, "--do", "digit=3", *BRIEF)
    sampled, noise = ("--set", "sample_code=on"), tmp_path / "noise.zip"
    succeed(call_script("counterfactual.py", *asked, *sampled, "--save-noise", noise, "--out", tmp_path / "one"))
    succeed(call_script("counterfactual.py", *asked, *sampled, "--load-noise", noise, "--out", tmp_path / "two"))
    succeed(call_script("counterfactual.py", *asked, "--out", tmp_path / "mean"))
    one, two, mean = ((tmp_path / name / "a__digit=3.png").read_bytes() for name in ("one", "two", "mean"))
    assert one == two != mean
    error = refuse("counterfactual.py", *asked, "--load-noise", noise, "--out", tmp_path / "three")
    assert "noise abducted with sample_code True, not None" in error
