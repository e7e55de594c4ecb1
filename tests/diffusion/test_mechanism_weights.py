"""The diffusion mechanism with a guidance weight for each group of parents."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.guidance import Weights
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.sampling import Sampling, intervening
from tests.support.networks import GRAPH, PARENTS, X, make


def watch(model: DiffusionMechanism, seen: list[Tensor]) -> None:
    """Write down the conditions that a mechanism's network embeds."""
    embed = model.unet.embed
    model.unet.embed = lambda c: (seen.append(c), embed(c))[1]


def test_only_what_is_intervened_on_is_amplified() -> None:
    """Without an intervention nothing is; with one, the parent's entries of the condition, given all others."""
    model, seen = make(), []
    model.sampling = Sampling(Weights.parse("do=3"), interval=(0.0, 1000.0), steps=4)
    noise = model.abduct(X, PARENTS)
    watch(model, seen)
    model.predict(noise, PARENTS)
    assert [len(c) for c in seen] == [6]
    seen.clear()
    with intervening(model, {"digit": 3}):
        model.predict(noise, PARENTS)
    given = torch.cat([noise.z, model.scaling(PARENTS)], dim=1)
    digit = torch.tensor([name == "digit" for name, width in model.widths.items() for _ in range(width)])
    assert digit.sum() == 10 and [len(c) for c in seen] == [6, 12]
    assert torch.equal(seen[1], torch.cat([torch.where(digit, model.null, given), given]))
    assert not model.sampling.intervened


def test_an_image_that_keeps_its_value_is_left_alone() -> None:
    """Where the intervention changes nothing, ``do`` amplifies nothing, and the counterfactual is the composition."""
    model = make()
    model.sampling = Sampling(Weights.parse("do=3"), interval=(0.0, 1000.0), steps=4)
    noise = model.abduct(X, PARENTS)
    composed = model.predict(noise, PARENTS)
    do = {"digit": PARENTS["digit"].clone()}
    do["digit"][:2] = (do["digit"][:2] + 1) % 10
    with intervening(model, do, PARENTS):
        answer = model.predict(noise, PARENTS | do)
    same = (answer - composed).abs().flatten(1).amax(dim=1) < 1e-9
    assert same.tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("effect", "amplified"), [("total", {"digit"}), ("direct", {"digit"}), ("indirect", {"slant"})]
)
def test_what_an_effect_changes_is_amplified(effect: str, amplified: set[str]) -> None:
    """An indirect effect keeps what is intervened on, so that ``do`` amplifies what follows from it instead."""
    model, seen = make(), []
    model.sampling = Sampling(Weights.parse("do=3"), interval=(0.0, 1000.0), steps=4)
    scm = GRAPH.scm(model)
    obs = {**PARENTS, "image": X}
    noise = scm.abduct(obs)
    do = scm.along(obs, noise, {"digit": (obs["digit"] + 1) % 10}, effect, "image")
    watch(model, seen)
    with intervening(model, do, obs):
        scm.predict(noise, do)
    held = (seen[1][: len(X)] == model.null).split(list(model.widths.values()), dim=1)
    assert {name for name, part in zip(model.widths, held, strict=True) if part.all()} == amplified
