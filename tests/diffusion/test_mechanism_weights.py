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


@pytest.mark.parametrize(
    ("guidance", "abduction"),
    [("2", "residual"), ("2", "dynamic"), ("do=3,do.slant=2,others=1", "semantic"), ("do=3,slant=2", "semantic")],
)
@torch.no_grad()
def test_worlds_together_are_what_each_is_alone(guidance: str, abduction: str) -> None:
    """Composition and queries of one image in one pass: what one of them emphasises changes no other."""
    model = make().double().using(guidance=guidance, guidance_interval=EVERYWHERE, steps=4, abduction=abduction)
    obs = {
        name: value.double() if value.is_floating_point() else value for name, value in {**PARENTS, "image": X}.items()
    }
    scm = GRAPH.scm(model)
    noise, other = scm.abduct(obs), (obs["digit"] + 1) % 10
    dos = [{}, {"digit": other}, {"slant": 0.1}, {"digit": other, "thickness": 3.0}]
    for do, values in zip(dos, scm.predict_each(noise, dos, obs)):
        torch.testing.assert_close(values["image"], scm.predict(noise, do, obs)["image"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("guidance", "abduction"),
    [("3", "semantic"), ("do=3,others=1.5", "semantic"), ("digit=3,others=2", "guided"), ("3", "residual")],
)
@torch.no_grad()
def test_equal_intervals_of_all_variables_are_one_interval(guidance: str, abduction: str) -> None:
    """Bit for bit."""
    model = make().using(guidance=guidance, abduction=abduction, steps=4)
    images = []
    for interval in ((0.5, 30.0), "others=0.5:30", "digit=0.5:30,thickness=0.5:30,others=0.5:30"):
        view = model.using(guidance_interval=interval)
        images.append(view.predict(view.abduct(X, PARENTS), PARENTS, {"digit": torch.tensor([1, 0] * 3).bool()}))
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])


@torch.no_grad()
def test_what_is_intervened_on_is_amplified_in_its_own_interval() -> None:
    """That of slant lies above all levels, so that slant is not amplified; digit has that of the others."""
    model = emphasising().using(guidance_interval="slant=900:1000,others=0:1000")
    noise, plain, single = model.abduct(X, PARENTS), model.using(guidance=1.0), emphasising()
    for name, same in (("slant", plain), ("digit", single)):
        changed = {name: torch.tensor(True)}
        assert torch.equal(model.predict(noise, PARENTS, changed), same.predict(noise, PARENTS, changed))
    part = model.using(guidance_interval="slant=5:1000,others=0:1000").predict(
        noise, PARENTS, {"slant": changed["digit"]}
    )
    assert all(
        (part - other.predict(noise, PARENTS, {"slant": changed["digit"]})).abs().max() > 1e-6
        for other in (plain, single)
    )


def test_one_variable_has_a_weight_where_it_is_intervened_on() -> None:
    model, noise = emphasising(), emphasising().abduct(X, PARENTS)
    for name, weight in (("slant", 2.0), ("digit", 3.0)):
        changed = {name: torch.tensor(True)}
        images = [
            model.using(guidance=text).predict(noise, PARENTS, changed) for text in ("do=3,do.slant=2", f"do={weight}")
        ]
        assert torch.equal(*images)


@pytest.mark.parametrize("text", ["pose=1:2,others=1:2", "do=1:2,others=1:2", "z=1:2,others=1:2"])
def test_intervals_name_parents(text: str) -> None:
    known = "thickness, intensity, digit, slant, others"
    with pytest.raises(InputError, match=f"guidance_interval (pose|do|z): not a parent of the image; known: {known}$"):
        make().using(guidance_interval=text)


@pytest.mark.parametrize("text", ["pose=3", "digit=2,hue=3", "do.pose=2"])
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
