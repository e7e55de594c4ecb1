"""Average effects and samples given observed data, on bundled models whose equations are known."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import dscm
from dscm import assets
from dscm.data.morphomnist.measure import measure
from dscm.errors import InputError
from dscm.evaluation.effects import estimate
from dscm.graphs import get_graph
from dscm.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    """The bundled model of digits, in few steps."""
    return dscm.load("morphomnist", steps=2)


@pytest.fixture(scope="module")
def obs(model: Model) -> dict[str, Tensor]:
    """Four digits."""
    return model.observe([assets.DIGITS / f"{i:05}.png" for i in range(4)])


def mean_intensity(thickness: float) -> float:
    """Integrate 64 + 191·σ(½ε + 2t − 5) over ε ~ N(0, 1)."""
    eps = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-eps.square() / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid((64 + 191 * torch.sigmoid(0.5 * eps + 2 * thickness - 5)) * density, eps).item()


def test_an_average_effect_is_the_integral(model: Model) -> None:
    """Within four standard errors, of which the interval has 3.92; in any batches."""
    result = dscm.average_causal_effect(model, "intensity", {"thickness": 3}, {"thickness": 2}, n=600)
    truth = mean_intensity(3) - mean_intensity(2)
    assert abs(result.mean - truth) < 4 / 3.92 * (result.high - result.low) and result.high - result.low < 1.2
    again = dscm.average_causal_effect(model, "intensity", {"thickness": 3}, {"thickness": 2}, n=600, batch=250)
    torch.testing.assert_close(again.mean, result.mean, rtol=0, atol=1e-6)
    assert dscm.average_causal_effect(model, "intensity", {"digit": 3}, n=10).mean == 0, "not downstream"


def test_observed_individuals_keep_their_noise(model: Model, obs: dict[str, Tensor]) -> None:
    """The average of counterfactuals; each one's own value, a change as text and a function say the same."""
    do = {"thickness": obs["thickness"] + 0.5}
    expected = model.scm.predict(model.abduct(obs), do)["intensity"] - obs["intensity"]
    for change in (do, {"thickness": "+0.5"}, {"thickness": "soft:+0.5"}, {"thickness": lambda t: t + 0.5}):
        result = dscm.average_causal_effect(model, "intensity", change, obs=obs, batch=3)
        assert result.mean.item() == pytest.approx(expected.mean().item(), abs=1e-4)
        assert expected.min() < result.low < result.mean < result.high < expected.max()


def test_of_images(model: Model, obs: dict[str, Tensor]) -> None:
    """A property of them, an attribute as measured, or all pixels."""
    do = {"thickness": "soft:+1", "digit": 3}
    noise = model.abduct(obs)
    images = [model.predict(noise, side, obs)["image"] for side in (do, {})]
    areas = [measure(image, ("area",))["area"].mean() for image in images]
    area = dscm.average_causal_effect(model, lambda image: measure(image, ("area",))["area"], do, obs=obs)
    assert area.mean.item() == pytest.approx((areas[0] - areas[1]).item(), abs=1e-4)
    thickness = [measure(image, ("thickness",))["thickness"].mean() for image in images]
    measured = dscm.average_causal_effect(model, "measured_thickness", do, obs=obs)
    assert measured.mean.item() == pytest.approx((thickness[0] - thickness[1]).item(), abs=1e-5)
    pixels = dscm.average_causal_effect(model, "image", do, obs=obs)
    torch.testing.assert_close(pixels.mean, (images[0].double() - images[1].double()).mean(dim=0))
    assert pixels.low.shape == (1, 28, 28) and (pixels.low <= pixels.mean).all() and (pixels.mean <= pixels.high).all()


def test_of_classes_and_of_angles(obs: dict[str, Tensor], model: Model) -> None:
    share = torch.bincount(obs["digit"], minlength=10) / len(obs["digit"])
    result = dscm.average_causal_effect(model, "digit", {"digit": 3}, obs=obs)
    torch.testing.assert_close(result.mean, torch.eye(10)[3].double() - share.double())
    graph = get_graph("colour-morphomnist")
    colour = SimpleNamespace(graph=graph, learned=None, device=torch.device("cpu"), scm=None)
    turned = dscm.average_causal_effect(colour, "hue", {"hue": "soft:+0.75"}, n=20)
    assert turned.mean.item() == pytest.approx(-0.25, abs=1e-6), "the short way round"
    assert dscm.average_causal_effect(colour, "hue", {"digit": 9}, {"digit": 8}, n=20).mean.item() == pytest.approx(0.1)


def test_samples_given_observed_data(model: Model, obs: dict[str, Tensor]) -> None:
    """What is not reached stays, roots change from what was observed, and the image is drawn anew."""
    drawn = dscm.interventional_samples(model, obs, {"thickness": lambda t: t + 0.5}, seed=1)
    torch.testing.assert_close(drawn["thickness"], obs["thickness"] + 0.5)
    assert torch.equal(drawn["digit"], obs["digit"]) and torch.equal(drawn["slant"], obs["slant"])
    again = dscm.interventional_samples(model, obs, {"thickness": lambda t: t + 0.5}, seed=1)
    assert drawn["image"].dtype == torch.uint8 and torch.equal(drawn["image"], again["image"])
    other = dscm.interventional_samples(model, obs, {"thickness": lambda t: t + 0.5}, seed=2)
    assert not torch.equal(drawn["intensity"], other["intensity"])
    assert not torch.equal(drawn["image"], model.predict(model.abduct(obs), {"thickness": "soft:+0.5"})["image"])


def test_an_interval_covers_a_mean_at_its_level() -> None:
    """Of 40 samples of 200 normal values, with seeds of their own, 38 on average."""
    hits = 0
    for seed in range(40):
        values = 1 + torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        result = estimate(values, seed)
        hits += bool(result.low < 1 < result.high)
        assert (result.high - result.low).item() == pytest.approx(2 * 1.96 / 200**0.5, rel=0.3)
    assert 34 <= hits <= 40


def test_wrong_questions_are_refused(model: Model, obs: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match="takes either obs, an observation, or n, how many to draw"):
        dscm.average_causal_effect(model, "intensity", {"thickness": 3})
    with pytest.raises(InputError, match="unknown variable 'weight'"):
        dscm.average_causal_effect(model, "measured_weight", {"thickness": 3}, n=2)
    with pytest.raises(InputError, match="image 00000: thickness would be 1[0-9.]+ px; allowed: 0.5 to 10 px"):
        dscm.average_causal_effect(model, "intensity", {"thickness": "soft:+9"}, n=2)
    with pytest.raises(InputError, match="digit: a soft intervention made 10 of 9; must be a whole number, 0 to 9"):
        dscm.average_causal_effect(model, "intensity", {"digit": lambda d: d * 0 + 10 - (d < 9) * 5}, n=90)
