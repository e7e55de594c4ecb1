"""What the README says of the bundled models of faces and mammograms, on the bundled samples."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import dscm
from dscm import assets
from dscm.data.given import read_given
from dscm.diffusion.guidance import Weights
from dscm.model import Model


def load(name: str, guidance: str) -> tuple[Model, dict[str, Tensor]]:
    """Return a bundled model with this guidance, and its samples with their attributes."""
    model, folder = dscm.load(name), assets.SAMPLES[name]
    model.mechanism.sampling = replace(model.mechanism.sampling, guidance=Weights.parse(guidance))
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    names = [path.name for path in paths]
    return model, model.observe(paths, read_given(folder / "attributes.csv", names, model.graph.attributes))


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean absolute difference of uint8 images, (B,), on [0, 1]."""
    return (x.float() - y.float()).abs().flatten(1).mean(dim=1) / 255


@pytest.mark.parametrize(("name", "least"), [("Eyeglasses", 15), ("Smiling", 11)])
def test_a_flipped_attribute_shows_in_the_face(name: str, least: int) -> None:
    """An oracle finds it, and the others as they were; the mouth goes along, and without an intervention all stays."""
    model, obs = load("celebahq", "do=2")
    noise = model.abduct(obs)
    assert distance(model.predict(noise)["image"], obs["image"]).max() < 0.003
    flipped = dict.fromkeys(model.graph.interventions[name], 1 - obs[name])
    answer = model.effect(obs, noise, flipped, "total")
    seen = model.observe(list(answer["image"]))
    assert (seen[name] == answer[name]).sum() >= least
    for other in {"Eyeglasses", "Smiling", "Male", "Wearing_Hat"} - {name}:
        assert (seen[other] == obs[other]).sum() >= 15, other
    assert distance(answer["image"], obs["image"]).mean() < 0.03


def test_triangular_markers_fade_and_nothing_else_changes() -> None:
    """Two in three are no longer found, and mammograms without one come back as they were."""
    model, obs = load("embed", "do=4")
    marked = obs["triangle marker"] == 1
    answer = model.effect(
        obs, model.abduct(obs), {"triangle marker": torch.zeros_like(marked, dtype=torch.long)}, "total"
    )
    found = model.observe(list(answer["image"]))["triangle marker"]
    assert marked.sum() >= 4 and found[marked].sum() <= marked.sum() / 3
    change = distance(answer["image"], obs["image"])
    assert change[~marked].max() < 0.003 and change.max() < 0.03
