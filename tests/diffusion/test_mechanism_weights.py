"""The diffusion mechanism with a guidance weight for each group of parents."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.errors import InputError
from tests.support.networks import GRAPH, PARENTS, X, make

EVERYWHERE = (0.0, 1000.0)


def emphasising() -> DiffusionMechanism:
    """Return a mechanism that emphasises what is intervened on."""
    return make().using(guidance="do=3", guidance_interval=EVERYWHERE, steps=4)


def watch(model: DiffusionMechanism, seen: list[Tensor]) -> None:
    """Write down the conditions that a mechanism's network embeds."""
    embed = model.unet.embed
    model.unet.embed = lambda c: (seen.append(c), embed(c))[1]


def test_only_what_is_intervened_on_is_amplified() -> None:
    """Without an intervention nothing is; with one, the parent's entries of the condition, given all others."""
    model, seen = emphasising(), []
    noise = model.abduct(X, PARENTS)
    watch(model, seen)
    model.predict(noise, PARENTS)
    assert [len(c) for c in seen] == [6]
    seen.clear()
    model.predict(noise, PARENTS, {"digit": torch.tensor(True)})
    factual = torch.cat([noise.z, model.scaling(PARENTS)], dim=1)
    digit = torch.tensor([name == "digit" for name, width in model.widths.items() for _ in range(width)])
    assert digit.sum() == 10 and [len(c) for c in seen] == [6, 12]
    assert torch.equal(seen[1], torch.cat([torch.where(digit, model.null, factual), factual]))


def test_an_image_that_keeps_its_value_is_left_alone() -> None:
    """Where the intervention changes nothing, ``do`` amplifies nothing, and the counterfactual is the composition."""
    scm = GRAPH.scm(emphasising())
    obs = {**PARENTS, "slant": PARENTS["slant"], "image": X}
    noise = scm.abduct(obs)
    composed = scm.predict(noise)["image"]
    do = {"digit": obs["digit"].clone()}
    do["digit"][:2] = (do["digit"][:2] + 1) % 10
    answer = scm.predict(noise, do, obs)["image"]
    same = (answer - composed).abs().flatten(1).amax(dim=1) < 1e-5
    assert same.tolist() == [False, False, True, True, True, True]
    everywhere = scm.predict(noise, do)["image"]  # nothing is known of what was observed
    assert ((everywhere - composed).abs().flatten(1).amax(dim=1) > 1e-5).all()


@pytest.mark.parametrize(
    ("effect", "amplified"), [("total", {"digit"}), ("direct", {"digit"}), ("indirect", {"slant"})]
)
def test_what_an_effect_changes_is_amplified(effect: str, amplified: set[str]) -> None:
    """An indirect effect keeps what is intervened on, so that ``do`` amplifies what follows from it instead."""
    model, seen = emphasising(), []
    scm = GRAPH.scm(model)
    obs = {**PARENTS, "image": X}
    noise = scm.abduct(obs)
    do = scm.along(obs, noise, {"digit": (obs["digit"] + 1) % 10}, effect, "image")
    watch(model, seen)
    scm.predict(noise, do, obs)
    held = (seen[1][: len(X)] == model.null).split(list(model.widths.values()), dim=1)
    assert {name for name, part in zip(model.widths, held, strict=True) if part.all()} == amplified


@pytest.mark.parametrize("text", ["pose=3", "digit=2,hue=3"])
def test_weights_name_parents(text: str) -> None:
    known = "thickness, intensity, digit, slant, do, others"
    with pytest.raises(InputError, match=f"guidance (pose|hue): not a parent of the image; known: {known}"):
        make().using(guidance=text)


def test_without_a_null_token_nothing_is_guided() -> None:
    """Of a mechanism whose conditions were never dropped in training."""
    model = make()
    model.null_trained = False
    with pytest.raises(InputError, match="trained without a null token .*; guidance must be 1"):
        model.using(guidance=1.5)
    with pytest.raises(InputError, match="trained without a null token .*; abduction must be semantic"):
        model.using(guidance=1.0, abduction="dynamic")
    model.using(guidance=1.0)
