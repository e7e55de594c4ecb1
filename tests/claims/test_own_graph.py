"""From nothing but a folder, a CSV and a graph file to counterfactuals near the true ones; `pytest --slow` runs it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import dscm
from dscm.model import Model
from tests.support import shapes
from tests.support.scripts import MACHINE, run_script

N, ASKED = 6000, 200  # images, and how many of those for testing are asked about


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that the program has never seen, and every part of a model of it: a quarter of an hour of one core."""
    folder = tmp_path_factory.mktemp("trained")
    shapes.write_set(folder / "images", N)
    where = ("--run", folder / "run", "--data-dir", folder / "images", "--cache-dir", folder / "cache", *MACHINE)
    for part in (
        ("--part", "attributes", "--graph", folder / "graph.json"),
        ("--part", "oracle", "--steps", 1500),
        ("--part", "image", "--steps", 2500),
    ):
        done = run_script("train.py", *part, *where, timeout=None)
        assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    """The trained model."""
    return dscm.load(run, guidance=1.5, steps=25)


@pytest.fixture(scope="module")
def known(model: Model) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """An observation of new images, the noise that made its attributes, and where the shapes lie."""
    generator = torch.Generator().manual_seed(100)
    attributes, noise = shapes.draw_attributes(ASKED, generator)
    nuisance = shapes.draw_nuisance(ASKED, generator)
    return attributes | {"image": shapes.render(attributes, nuisance)}, noise, nuisance


@pytest.mark.slow
@pytest.mark.parametrize("name", ["size", "warmth", "kind", "striped"])
def test_counterfactuals_are_near_the_true_ones(model: Model, known: tuple, name: str) -> None:
    """Attributes within 10% of their standard deviation, and images within 0.05, of what really follows."""
    obs, noise, nuisance = known
    value = obs[name].flip(0) if name != "striped" else 1 - obs[name]
    answer = model.predict(model.abduct(obs), {name: value}, obs)
    if name in ("size", "kind"):
        truth = shapes.follow({"size": obs["size"], "kind": obs["kind"]} | {name: value}, noise)
    else:
        truth = {key: obs[key] for key in ("size", "warmth", "kind", "striped")} | {name: value}
    for attribute in ("size", "warmth"):
        error = (answer[attribute] - truth[attribute]).abs().mean() / obs[attribute].std()
        assert error < 0.1, f"{attribute}: {error:.3f} standard deviations"
    shares = [(values["striped"] == 1).float().mean().item() for values in (answer, truth)]
    assert shares[0] == pytest.approx(shares[1], abs=0.08)
    measured = model.observe(list(answer["image"]))
    for attribute in ("size", "warmth"):
        error = (measured[attribute] - answer[attribute]).abs().mean() / obs[attribute].std()
        assert error < 0.1, f"{attribute} of the image: {error:.3f} standard deviations"
    for attribute in ("kind", "striped"):
        assert (measured[attribute] == answer[attribute]).float().mean() > 0.95, attribute
    drawn = shapes.render({key: answer[key] for key in truth}, nuisance)
    distance = (answer["image"].float() - drawn.float()).abs().mean() / 255
    assert distance <= 0.05, f"truth L1 {distance:.4f}"
