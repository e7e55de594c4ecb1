"""The contract of an image's mechanism, for every one of them."""

import io
import math

import torch

from tests.support.image_mechanisms import EXACT, MAKERS, SETTINGS, SIZE, each, make, observe, seeded

OBJECTIVE = {
    "diffscm": {},
    "vci": {},
    **dict.fromkeys(("spatial", "semantic", "dynamic", "residual"), {"p_null": 0.3, "beta": 1.0}),
}


@each
def test_composition(name: str) -> None:
    """Abduct, then predict with the same parents: the observation, within what the mechanism promises."""
    model, obs = make(name), observe()
    if name in ("diffscm", "spatial", "semantic"):
        model = model.using(fixed_point=30)
    with torch.no_grad():
        again = model.predict(model.abduct(obs["image"], obs), obs)
    assert again.shape == obs["image"].shape and again.dtype == torch.float64
    error = (again - obs["image"]).abs().max()
    assert error <= EXACT.get(name, math.inf)
    if name == "vci":
        assert error > 0.01, "a code alone cannot repeat noise"


@each
def test_inputs_are_not_mutated_and_parents_matter(name: str) -> None:
    model, obs = make(name), observe()
    before = {key: value.clone() for key, value in obs.items()}
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        kept = [part.clone() for part in (noise if isinstance(noise, tuple) else (noise,))]
        answer = model.predict(noise, obs | {"digit": (obs["digit"] + 3) % 10})
        same = model.predict(noise, obs)
    assert not torch.equal(answer, same)
    assert all(torch.equal(obs[key], before[key]) for key in obs)
    assert all(map(torch.equal, kept, noise if isinstance(noise, tuple) else (noise,)))


@each
def test_saved_and_loaded_it_gives_the_same_bytes(name: str) -> None:
    model, obs = make(name), observe()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = MAKERS[name]().double().eval()
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    other = other.using(**SETTINGS.get(name, {}))
    with torch.no_grad():
        one, two = (
            m.predict(m.abduct(obs["image"], obs), obs | {"digit": obs["digit"].flip(0)}) for m in (model, other)
        )
    assert torch.equal(one, two)


@each
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    model, obs = make(name).train(), observe(8)
    terms = model(obs["image"], obs, generator=seeded(3), **OBJECTIVE.get(name, {"beta": 1.0}))
    assert terms["loss"].isfinite() and all(not term.requires_grad for key, term in terms.items() if key != "loss")
    terms["loss"].backward()
    lacking = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not lacking


@each
def test_samples_have_the_shape_of_images(name: str) -> None:
    model = make(name).float()
    obs = {key: value.float() if value.is_floating_point() else value for key, value in observe(5).items()}
    with torch.no_grad():
        image = model.predict(model.sample_noise(5, seeded(4)), obs)
    assert image.shape == (5, 1, SIZE, SIZE) and image.isfinite().all()
