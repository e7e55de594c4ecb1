"""Effects along some paths only, and of populations, against values worked out by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dscm.causal.effects import individual_effects, interventional_samples
from dscm.causal.mechanisms import Intervened, LinearGaussian, Parents
from dscm.causal.scm import SCM
from dscm.errors import InputError


def linear_model() -> SCM:
    """Return a → m → y with weights 2 and 3, and a → y with weight 5; b → y alone."""
    return SCM(
        {
            "a": LinearGaussian({}, 0.0, 1.0),
            "b": LinearGaussian({}, 0.0, 1.0),
            "m": LinearGaussian({"a": 2.0}, 1.0, 0.5),
            "y": LinearGaussian({"a": 5.0, "m": 3.0, "b": 7.0}, -1.0, 2.0),
            "after": LinearGaussian({"y": 1.0}, 0.0, 1.0),
        },
        {"m": ["a"], "y": ["a", "m", "b"], "after": ["y"]},
    )


@pytest.mark.parametrize(("kind", "effect"), [("total", 5 + 2 * 3), ("direct", 5), ("indirect", 2 * 3)])
def test_effects_by_hand(kind: str, effect: float) -> None:
    """Of do(a = a + 1.5) on y; each relative to the composition, to which it is linear."""
    scm, obs = linear_model(), {}
    for i, name in enumerate(scm.order):
        obs[name] = torch.randn(7, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    noise = scm.abduct(obs)
    changed = scm.predict(noise, scm.along(obs, noise, {"a": obs["a"] + 1.5}, kind, "y"))
    torch.testing.assert_close(changed["y"] - obs["y"], torch.full_like(obs["y"], 1.5 * effect), atol=1e-6, rtol=0)
    mediator = obs["m"] + (0 if kind == "direct" else 3.0)
    torch.testing.assert_close(changed["m"], mediator, atol=1e-6, rtol=0)
    torch.testing.assert_close(changed["a"], obs["a"] + (0 if kind == "indirect" else 1.5), atol=1e-6, rtol=0)


def test_what_is_not_upstream_has_no_effect() -> None:
    scm = linear_model()
    obs = {name: torch.zeros(2) for name in scm.order}
    with pytest.raises(InputError, match="after: not upstream of y; upstream are a, b, m"):
        scm.along(obs, scm.abduct(obs), {"after": 1.0}, "total", "y")
    assert scm.descendants(["a"]) == {"m", "y", "after"} and scm.descendants(["a", "m"]) == {"y", "after"}


def dowhy_model() -> SCM:
    """Return the linear model of dowhy's tests of interventional samples (tests/gcm/test_whatif.py)."""
    return SCM(
        {
            "X0": LinearGaussian({}, 0.0, 1.0),
            "X1": LinearGaussian({"X0": 2.0}, 0.0, 0.1),
            "X2": LinearGaussian({"X0": 0.5}, 0.0, 0.1),
            "X3": LinearGaussian({"X2": 0.5}, 0.0, 0.1),
        },
        {"X1": ["X0"], "X2": ["X0"], "X3": ["X2"]},
    )


@pytest.mark.parametrize(
    ("do", "means", "spreads"),
    [
        ({"X2": 10.0}, (0, 1, 10, 5), (0, 0, 0, 0.1)),
        ({"X2": lambda x: x + 10}, (0, 1, 10, 5), (0, 0, 0.1, 0.1 * 1.25**0.5)),
        ({"X0": 10.0, "X2": lambda x: x + 5}, (10, 20, 10, 5), (0, 0.1, 0.1, 0.1 * 1.25**0.5)),
        ({"X0": lambda x: x + 10}, (10, 20, 5, 2.5), (0, 0.1, 0.1, 0.1 * 1.25**0.5)),
        ({}, (0, 1, 2, 3), (0, 0, 0, 0)),
    ],
)
def test_interventional_samples_given_observed_data(do: Any, means: Sequence[float], spreads: Sequence[float]) -> None:
    """Dowhy's answers to the individual (0, 1, 2, 3): what is not reached stays, the rest is drawn anew.

    The first three rows are its tests; it checks means to within .2 to .5, and has no noise left of X2 = 2 and X3 = 3.
    """
    n = 4000
    obs = {f"X{i}": torch.full((n,), float(i)) for i in range(4)}
    drawn = interventional_samples(dowhy_model(), obs, do, torch.Generator().manual_seed(0))
    for i, (mean, spread) in enumerate(zip(means, spreads)):
        values = drawn[f"X{i}"].double()
        assert values.mean().item() == pytest.approx(mean, abs=4 * spread / n**0.5 + 1e-6)
        assert values.std().item() == pytest.approx(spread, rel=0.05, abs=1e-6)


def test_what_is_drawn_anew_need_not_be_observed() -> None:
    scm, some = dowhy_model(), {"X0": torch.zeros(2), "X1": torch.ones(2)}
    assert interventional_samples(scm, some, {"X2": 10.0}, torch.Generator())["X2"].tolist() == [10, 10]
    with pytest.raises(InputError, match="the observation lacks X2, X3; it needs X0, X2, X3"):
        interventional_samples(scm, some, {"X1": 10.0}, torch.Generator())


class Threshold(LinearGaussian):
    """One where a linear Gaussian is at or above 1.5."""

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        return (super().predict(noise, parents, intervened) >= 1.5).to(noise)


@pytest.mark.parametrize(("noise", "last", "effect"), [(0.2, LinearGaussian, 1.5), (0.1, Threshold, 0.5)])
def test_an_average_effect_of_dowhy(noise: float, last: type[LinearGaussian], effect: float) -> None:
    """Its tests: T → X0, X1 with weights 1 and ½, whose sum is Y, or Y tells whether that reaches 1.5."""
    scm = SCM(
        {
            "T": LinearGaussian({}, 0.5, 0.5),
            "X0": LinearGaussian({"T": 1.0}, 0.0, noise),
            "X1": LinearGaussian({"T": 0.5}, 0.0, noise),
            "Y": last({"X0": 1.0, "X1": 1.0}, 0.0, 0.1),
        },
        {"X0": ["T"], "X1": ["T"], "Y": ["X0", "X1"]},
    )
    drawn = scm.sample_noise(4000, torch.Generator().manual_seed(0))
    effects = individual_effects(scm, drawn, {"T": lambda t: 1}, {"T": lambda t: 0}, lambda values: values["Y"])
    assert effects.mean().item() == pytest.approx(effect, abs=0.03 if last is Threshold else 1e-5)


def test_roots_draw_their_noise_in_the_order_of_the_graph() -> None:
    """Each abduction draws from one generator: in the order of a set, the same seed would give other samples."""
    asked: list[str] = []

    class Recorder(LinearGaussian):
        def abduct(self, value: Tensor, parents: Parents, generator: Any = None) -> Tensor:
            asked.append(names[int(value[0])])
            return super().abduct(value, parents, generator)

    names = [f"cause{i}" for i in range(12)]
    scm = SCM({name: Recorder({}, 0.0, 1.0) for name in names}, {})
    obs = {name: torch.tensor([float(i)]) for i, name in enumerate(names)}
    interventional_samples(scm, obs, dict.fromkeys(names, lambda value: value + 1), torch.Generator())
    assert asked == list(scm.order)
