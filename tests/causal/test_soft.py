"""Soft interventions: functions of what the parents make of a variable, against values worked out by hand."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from dscm.causal.mechanisms import CategoricalRoot, Intervened, LinearGaussian, Mechanism, Parents
from dscm.causal.scm import SCM
from dscm.errors import InputError

MODEL = SCM(  # of the tests of dowhy.gcm (tests/gcm/test_whatif.py), whose coefficients are exact here
    {
        "X0": LinearGaussian({}, 0.0, 1.0),
        "X1": LinearGaussian({"X0": 2.0}, 0.0, 0.1),
        "X2": LinearGaussian({"X0": 0.5}, 0.0, 0.1),
        "X3": LinearGaussian({"X2": 0.5}, 0.0, 0.1),
    },
    {"X1": ["X0"], "X2": ["X0"], "X3": ["X2"]},
)


class Witness(Mechanism[Tensor]):
    """A mechanism that remembers where guidance would emphasise an intervention."""

    def abduct(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        return value

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        self.seen = dict(intervened)
        return noise


def table(*rows: float) -> dict[str, Tensor]:
    """Return values of X0 to X3 of one individual."""
    return {f"X{i}": torch.tensor([value], dtype=torch.float64) for i, value in enumerate(rows)}


def assert_values(answer: Mapping[str, Tensor], *rows: float) -> None:
    assert [answer[f"X{i}"].item() for i in range(4)] == pytest.approx(rows, abs=1e-9)


def test_a_counterfactual_of_dowhy() -> None:
    """Of its tests, and the same with functions: X2 follows X0, then the function, then X3 follows X2."""
    obs = table(1, 3, 3, 4)
    assert_values(MODEL.counterfactual(obs, {"X2": lambda x: 2}), 1, 3, 2, 3.5)
    assert_values(MODEL.counterfactual(obs, {"X2": lambda x: x + 10}), 1, 3, 13, 9)
    assert_values(MODEL.counterfactual(obs, {"X0": 10, "X2": lambda x: x + 5}), 10, 21, 3 + 4.5 + 5, 4 + 9.5 / 2)
    assert_values(MODEL.counterfactual(obs, {"X0": lambda x: 0.2 * x, "X2": lambda x: 3 * x}), 0.2, 1.4, 7.8, 6.4)


def test_of_given_noise() -> None:
    """The noise of dowhy's test is in the unit of the value, ours in standard deviations."""
    noise = {"X0": table(1, 0, 0, 0)["X0"]} | {f"X{i}": table(*[10.0 * (i + 1)] * 4)[f"X{i}"] for i in (1, 2, 3)}
    assert_values(MODEL.predict(noise, {"X2": lambda x: 2}), 1, 4, 2, 5)
    assert_values(MODEL.predict(noise, {"X2": lambda x: x - 1.5}), 1, 4, 2, 5)


def test_a_soft_change_is_one_of_the_observed_value_where_nothing_upstream_changes() -> None:
    obs = {name: torch.randn(5, dtype=torch.float64) for name in MODEL.order}
    for change in (lambda x: x + 1.5, lambda x: x * 0.8):
        soft, hard = MODEL.counterfactual(obs, {"X2": change}), MODEL.counterfactual(obs, {"X2": change(obs["X2"])})
        for name in MODEL.order:
            torch.testing.assert_close(soft[name], hard[name], rtol=0, atol=1e-12)
    upstream = {"X0": 3.0}
    soft = MODEL.counterfactual(obs, {**upstream, "X2": lambda x: x + 1.5})["X2"]
    torch.testing.assert_close(soft, MODEL.counterfactual(obs, upstream)["X2"] + 1.5)


def test_samples_follow_their_parents_and_then_the_function() -> None:
    """Of Var X2 = .5² + .1² and a shift by 10; X3 follows."""
    drawn = MODEL.sample(4000, torch.Generator().manual_seed(0), {"X2": lambda x: x + 10})
    assert drawn["X2"].mean().item() == pytest.approx(10, abs=0.03)
    assert drawn["X2"].std().item() == pytest.approx((0.25 + 0.01) ** 0.5, rel=0.03)
    assert drawn["X3"].mean().item() == pytest.approx(5, abs=0.03)
    assert torch.corrcoef(torch.stack([drawn["X0"], drawn["X2"]]))[0, 1] > 0.95


def test_effects_along_some_paths_take_the_value_that_a_soft_one_gives() -> None:
    """Of a → m → y with a → y: do(a + 1, m doubled), where m would be 2·2 + 0.5 = 4.5, so 9."""
    scm = SCM(
        {
            "a": LinearGaussian({}, 0.0, 1.0),
            "m": LinearGaussian({"a": 2.0}, 0.0, 1.0),
            "k": LinearGaussian({"m": 1.0}, 0.0, 1.0),
            "y": LinearGaussian({"a": 5.0, "m": 3.0, "k": 1.0}, 0.0, 1.0),
        },
        {"m": ["a"], "k": ["m"], "y": ["a", "m", "k"]},
    )
    values = {"a": 1.0, "m": 2.5, "k": 3.0, "y": 20.0}
    obs = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
    noise, do = scm.abduct(obs), {"a": lambda a: a + 1, "m": lambda m: 2 * m}

    def ask(effect: str) -> list[float]:
        answer = scm.predict(noise, scm.along(obs, noise, do, effect, "y"))
        return [answer[name].item() for name in scm.order]

    assert ask("total") == pytest.approx([2, 9, 9.5, 20 + 5 + 3 * 6.5 + 6.5])
    assert ask("direct") == pytest.approx([2, 9, 3, 20 + 5 + 3 * 6.5]), "k is a mediator"
    assert ask("indirect") == pytest.approx([1, 2.5, 9.5, 20 + 6.5])


def test_guidance_emphasises_where_the_function_changes_the_value() -> None:
    """A function that changes nothing is no intervention, even where the parents' change reaches its variable."""
    witness = Witness()
    scm = SCM({**MODEL.mechanisms, "w": witness}, {**MODEL.parents, "w": ["X2"]})
    obs = {name: torch.tensor([0.1, 0.7], dtype=torch.float64) for name in scm.order}
    scm.counterfactual(obs, {"X0": 2.0, "X2": lambda x: x})
    assert witness.seen["X0"].all() and not witness.seen["X2"].any()
    scm.counterfactual(obs, {"X2": lambda x: x.clamp(min=0.5)})
    assert witness.seen["X2"].tolist() == [True, False]
    scm.predict(scm.abduct(obs), {"X2": lambda x: x})
    assert witness.seen["X2"].all(), "without an observation all are emphasised"


def test_a_function_that_works_in_place_changes_no_noise() -> None:
    obs = table(1, 3, 3, 4)
    noise = MODEL.abduct(obs)
    assert_values(MODEL.predict(noise, {"X0": lambda x: x.add_(1)}, obs), 2, 5, 3.5, 4.25)
    assert_values(MODEL.predict(noise), 1, 3, 3, 4)


def test_the_function_comes_after_the_ends_of_the_domain() -> None:
    """What the mechanism gives stays in its domain; what the function makes of it is the caller's to check."""
    scm = SCM({"X0": LinearGaussian({}, 0.0, 10.0)}, {}, {"X0": (0.0, 1.0)})
    drawn = scm.sample(100, torch.Generator().manual_seed(0), {"X0": lambda x: x + 1})["X0"]
    assert drawn.min() >= 1 and drawn.max() <= 2


def test_wrong_results_are_named() -> None:
    scm = SCM({"d": CategoricalRoot(3)}, {})
    with pytest.raises(InputError, match=r"do\(d\) takes whole numbers only"):
        scm.sample(2, torch.Generator(), {"d": lambda d: d + 0.5})
    with pytest.raises(InputError, match=r"do\(d\) has shape \(3,\)"):
        scm.sample(2, torch.Generator(), {"d": lambda d: torch.zeros(3)})
