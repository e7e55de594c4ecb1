"""What the README says of the bundled models of faces and mammograms, on the bundled samples."""

from typing import Any

import pytest
import torch
from torch import Tensor

import dscm
from dscm import assets
from dscm.model import Model


def load(name: str, guidance: str) -> tuple[Model, dict[str, Tensor]]:
    """Return a bundled model with this guidance, and its samples with their attributes."""
    model = dscm.load(name, guidance=guidance)
    return model, model.observe(assets.SAMPLES[name])


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean absolute difference of uint8 images, (B,), on [0, 1]."""
    return (x.float() - y.float()).abs().flatten(1).mean(dim=1) / 255


@pytest.fixture(scope="module")
def faces() -> tuple[Model, dict[str, Tensor], Any]:
    """The model of faces, its samples, and their noise."""
    model, obs = load("celebahq", "do=2")
    return model, obs, model.abduct(obs)


def test_without_an_intervention_a_face_comes_back(faces: tuple[Model, dict[str, Tensor], Any]) -> None:
    model, obs, noise = faces
    assert distance(model.predict(noise)["image"], obs["image"]).max() < 0.003


def test_guidance_of_the_target_costs_composition(faces: tuple[Model, dict[str, Tensor], Any]) -> None:
    """Where nothing changes it is left out; forced on, it moves the face by several times as much."""
    model, obs, noise = faces
    some = {name: value[:4] for name, value in obs.items()}
    guided = model.predict(model.abduct(some), {"Eyeglasses": some["Eyeglasses"]})["image"]
    plain = distance(model.predict(noise)["image"][:4], some["image"]).mean()
    assert distance(guided, some["image"]).mean() > 2 * plain


@pytest.mark.parametrize(("name", "least"), [("Eyeglasses", 15), ("Smiling", 11)])
def test_a_flipped_attribute_shows_in_the_face(
    faces: tuple[Model, dict[str, Tensor], Any], name: str, least: int
) -> None:
    """An oracle sees it, and the others as they were; the mouth goes along."""
    model, obs, noise = faces
    flipped = dict.fromkeys(model.graph.interventions[name], 1 - obs[name])
    answer = model.effect(obs, noise, flipped, "total")
    seen = model.observe(list(answer["image"]))
    assert (seen[name] == answer[name]).sum() >= least
    for other in {"Eyeglasses", "Smiling", "Male", "Wearing_Hat"} - {name}:
        assert (seen[other] == obs[other]).sum() >= 15, other
    assert distance(answer["image"], obs["image"]).mean() < 0.03


def test_glasses_and_smiles_show_on_people() -> None:
    """On faces that the model of photographs drew, by an oracle that did not train it, where no more is changed."""
    model = dscm.load("celeba")
    obs = model.observe(assets.SAMPLES["celeba"])
    noise = model.abduct(obs)
    assert distance(model.predict(noise)["image"], obs["image"]).mean() < 0.02
    for name in ("Eyeglasses", "Smiling"):
        asked = model.graph.interventions[name]
        answer = model.effect(obs, noise, dict.fromkeys(asked, 1 - obs[name]), "total")
        seen = model.observe(list(answer["image"]))
        assert (seen[name] == answer[name]).sum() >= 15, name
        assert distance(answer["image"], obs["image"]).mean() < 0.15


def test_markers_go_one_kind_at_a_time_and_nothing_else_changes() -> None:
    """They are no longer found, the other kind is, and mammograms without one come back as they were."""
    model = dscm.load("embed")
    obs = model.observe(assets.SAMPLES["embed"])
    obs = {name: value[[0, 13, 15, 3]] for name, value in obs.items()}  # a triangle, both, a circle, none
    noise, kinds = model.abduct(obs), ["circle marker", "triangle marker"]
    for name, other in (kinds, kinds[::-1]):
        answer = model.effect(obs, noise, {name: torch.zeros(4, dtype=torch.long)}, "total")
        seen = model.observe(list(answer["image"]))
        assert not seen[name].any() and torch.equal(seen[other], obs[other])
        change = distance(answer["image"], obs["image"])
        assert change[obs[name] == 0].max() < 0.002 and 0.001 < change[obs[name] == 1].min() <= change.max() < 0.01
