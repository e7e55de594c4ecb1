"""Structural causal models whose answers are known on paper."""

import pytest
import torch
from torch import Tensor

from dscm.causal.mechanisms import (
    CategoricalRoot,
    GammaRoot,
    Intervened,
    LinearGaussian,
    Mechanism,
    Parents,
    ScaledSigmoid,
)
from dscm.causal.scm import SCM, topological_order
from dscm.errors import InputError


class Painter(Mechanism):
    """Paint `x = noise + brightness` on a 1x2x2 image."""

    event_dims = 3

    def abduct(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        return value - parents["brightness"][:, None, None, None].to(value)

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        return noise + parents["brightness"][:, None, None, None].to(noise)

    def sample_noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 1, 2, 2, generator=generator, device=generator.device)


def linear(**weights: float) -> LinearGaussian:
    return LinearGaussian(weights, bias=1.0, scale=2.0)


def doubles(**values: list[float]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], msg=lambda text, name=name: f"{name}: {text}")


CHAIN = SCM({"a": linear(), "b": linear(a=3.0), "c": linear(b=-1.0)}, {"b": ["a"], "c": ["b"]})
FORK = SCM({"a": linear(), "b": linear(a=3.0), "c": linear(a=-1.0)}, {"b": ["a"], "c": ["a"]})
COLLIDER = SCM({"a": linear(), "b": linear(), "c": linear(a=3.0, b=-1.0)}, {"c": ["a", "b"]})
OBS = doubles(a=[0.0, 1.0], b=[10.0, -2.0], c=[5.0, 7.0])
each_scm = pytest.mark.parametrize("scm", [CHAIN, FORK, COLLIDER], ids=["chain", "fork", "collider"])

MORPHO = SCM(
    {
        "intensity": ScaledSigmoid(64.0, 255.0, {"thickness": 2.0}, bias=-5.0, scale=0.5),
        "thickness": GammaRoot(shift=0.5, shape=10, rate=5.0),
        "digit": CategoricalRoot(10),
    },
    {"intensity": ["thickness"]},
)
PICTURE = SCM({"brightness": linear(), "image": Painter()}, {"image": ["brightness"]})


def test_abduction_in_a_chain() -> None:
    # eps = (value - 1 - weight * parent) / 2
    assert_equal(CHAIN.abduct(OBS), doubles(a=[-0.5, 0.0], b=[4.5, -3.0], c=[7.0, 2.0]))


def test_chain_passes_the_change_on() -> None:
    # b moves by 3 * (2 - a), c by minus that
    assert_equal(CHAIN.counterfactual(OBS, {"a": 2.0}), doubles(a=[2.0, 2.0], b=[16.0, 1.0], c=[-1.0, 4.0]))


def test_fork_passes_the_change_to_both() -> None:
    assert_equal(FORK.counterfactual(OBS, {"a": 2.0}), doubles(a=[2.0, 2.0], b=[16.0, 1.0], c=[3.0, 6.0]))
    assert_equal(FORK.counterfactual(OBS, {"b": 0.0}), {**OBS, **doubles(b=[0.0, 0.0])})


def test_collider_takes_both_changes() -> None:
    expected = doubles(a=[2.0, 2.0], b=[0.0, 0.0], c=[5 + 6 + 10.0, 7 + 3 - 2.0])
    assert_equal(COLLIDER.counterfactual(OBS, {"a": 2.0, "b": 0.0}), expected)


def test_joint_intervention_cuts_the_mediator() -> None:
    expected = doubles(a=[2.0, 2.0], b=[10.0, 0.0], c=[5.0, 5.0])
    assert_equal(CHAIN.counterfactual(OBS, {"a": 2, "b": torch.tensor([10, 0])}), expected)


@each_scm
def test_composition(scm: SCM) -> None:
    assert_equal(scm.counterfactual(OBS, {}), OBS)
    assert_equal(scm.counterfactual(OBS, {"b": OBS["b"]}), OBS)


@each_scm
def test_effectiveness(scm: SCM) -> None:
    values = doubles(b=[0.25, -7.5])["b"]
    assert torch.equal(scm.counterfactual(OBS, {"b": values})["b"], values)


@each_scm
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_reversibility(scm: SCM, name: str) -> None:
    there = scm.counterfactual(OBS, {name: 4.0})
    assert not torch.equal(there[name], OBS[name])
    assert_equal(scm.counterfactual(there, {name: OBS[name]}), OBS)


def test_composition_with_saturated_intensity() -> None:
    obs = {**doubles(intensity=[40.0, 64.0, 255.0], thickness=[1.0, 2.6, 4.0]), "digit": torch.tensor([1, 2, 3])}
    assert_equal(MORPHO.counterfactual(obs, {}), obs)


@pytest.mark.parametrize("thickness", [1.0, 6.0])
def test_reversibility_of_a_joint_intervention(thickness: float) -> None:
    obs = {**doubles(intensity=[90.0, 180.0, 254.8], thickness=[1.5, 2.6, 4.0]), "digit": torch.tensor([1, 2, 3])}
    there = MORPHO.counterfactual(obs, {"thickness": thickness, "digit": 7})
    assert_equal(MORPHO.counterfactual(there, {"thickness": obs["thickness"], "digit": obs["digit"]}), obs)
    assert there["digit"].tolist() == [7, 7, 7] and there["digit"].dtype == torch.int64


def test_intensity_under_do_thickness_by_hand() -> None:
    obs = {**doubles(intensity=[120.0, 180.0, 250.0], thickness=[1.5, 2.6, 4.0]), "digit": torch.tensor([1, 2, 3])}
    share = (obs["intensity"] - 64) / 191
    expected = 64 + 191 * torch.sigmoid(torch.logit(share) + 2 * (3.0 - obs["thickness"]))
    torch.testing.assert_close(MORPHO.counterfactual(obs, {"thickness": 3.0})["intensity"], expected)


def test_sampling_then_abducting_returns_the_noise() -> None:
    noise = {name: CHAIN.mechanisms[name].sample_noise(100, seeded()) for name in CHAIN.order}
    assert_equal(CHAIN.abduct(CHAIN.predict(noise)), noise)


def test_samples_follow_the_model_and_the_generator() -> None:
    sample = MORPHO.sample(20_000, seeded())
    assert sample["thickness"].mean().item() == pytest.approx(2.5, abs=0.02)
    assert torch.corrcoef(torch.stack([sample["thickness"], sample["intensity"]]))[0, 1] > 0.8
    assert_equal(MORPHO.sample(20_000, seeded()), sample)
    assert not torch.equal(MORPHO.sample(20_000, seeded(1))["thickness"], sample["thickness"])


def test_samples_under_an_intervention() -> None:
    sample = CHAIN.sample(20_000, seeded(), do={"b": 5.0})
    assert (sample["b"] == 5).all()
    assert sample["a"].mean().item() == pytest.approx(1.0, abs=0.05)
    assert sample["c"].mean().item() == pytest.approx(1.0 - 5.0, abs=0.05)
    assert sample["c"].std().item() == pytest.approx(2.0, abs=0.05)


def test_the_image_is_one_more_variable() -> None:
    obs = {"brightness": torch.tensor([1.0, 2.0]), "image": torch.arange(8.0).reshape(2, 1, 2, 2)}
    brighter = PICTURE.counterfactual(obs, {"brightness": 3.0})["image"]
    assert torch.equal(brighter, obs["image"] + torch.tensor([2.0, 1.0])[:, None, None, None])
    for image in (torch.ones(2, 1, 2, 2), torch.ones(1, 2, 2)):
        assert torch.equal(PICTURE.counterfactual(obs, {"image": image})["image"], torch.ones(2, 1, 2, 2))


@pytest.mark.parametrize("order", [["c", "b", "a"], ["b", "a", "c"]])
def test_declaration_order_does_not_matter_to_the_answer(order: list[str]) -> None:
    shuffled = SCM({name: CHAIN.mechanisms[name] for name in order}, CHAIN.parents)
    assert shuffled.order == ("a", "b", "c")
    assert_equal(shuffled.counterfactual(OBS, {"a": 2.0}), CHAIN.counterfactual(OBS, {"a": 2.0}))


def test_topological_order_follows_the_declaration_where_it_may() -> None:
    assert topological_order({"d": (), "c": ("a",), "b": (), "a": ("b",)}) == ("d", "b", "a", "c")


@pytest.mark.parametrize(
    "parents, message",
    [
        ({"a": ["b"], "b": ["a"]}, "cycle: a -> b -> a"),
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, "cycle: a -> b -> c -> a"),
        ({"a": ["b"], "b": ["b"]}, "cycle: b -> b"),
        ({"c": ["a", "z"]}, "variable 'c' has parent 'z', which is not one of: a, b, c"),
    ],
)
def test_wrong_graphs_are_named(parents: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError) as error:
        SCM({name: linear() for name in "abc"}, parents)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "scm, do, message",
    [
        (CHAIN, {"q": 1.0}, "unknown variable 'q' in do; known: a, b, c"),
        (CHAIN, {"a": torch.zeros(3)}, r"do\(a\) has shape \(3,\).*batch of 2"),
        (MORPHO, {"digit": 2.5}, r"do\(digit\) takes whole numbers only"),
        (PICTURE, {"image": 1.0}, r"do\(image\) has shape \(\); it takes 3 dimensions"),
    ],
)
def test_wrong_interventions_are_named(scm: SCM, do: dict[str, float | Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        scm.sample(2, seeded(), do)


def test_a_missing_observation_is_named() -> None:
    with pytest.raises(InputError, match="the observation lacks b; it needs a, b, c"):
        CHAIN.abduct({"a": OBS["a"], "c": OBS["c"]})


def test_inputs_are_not_mutated_nor_shared_with_the_result() -> None:
    obs = {name: value.clone() for name, value in OBS.items()}
    do = {"a": torch.tensor([2.0, 3.0], dtype=torch.float64)}
    CHAIN.counterfactual(obs, do)["a"].zero_()
    assert do["a"].tolist() == [2.0, 3.0] and list(do) == ["a"]
    assert_equal(obs, OBS)


def test_gradients_reach_the_intervention() -> None:
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    CHAIN.counterfactual(OBS, {"a": a})["c"].sum().backward()
    assert a.grad.item() == 2 * 3 * -1


@pytest.mark.parametrize("ends", [(0.0, 255.0), (40.0, 256.0)])
def test_a_counterfactual_keeps_the_domain_and_composition_every_value_in_it(ends: tuple[float, float]) -> None:
    """Saturated values, values off the sigmoid's range, and equations that would run beyond the ends."""
    mechanisms = {
        "a": GammaRoot(0.5, 10, 5.0),
        "b": ScaledSigmoid(64.0, 255.0, {"a": 2.0}, bias=-5.0, scale=0.5),
        "c": LinearGaussian({"a": 20.0}, 100.0, 40.0),
    }
    scm = SCM(mechanisms, {"b": ["a"], "c": ["a"]}, {"b": ends, "c": ends})
    value = torch.linspace(*ends, 400)
    obs = {"a": torch.linspace(0.5, 10, 400), "b": value, "c": value}
    noise = scm.abduct(obs)
    again = scm.predict(noise)
    for name in ("b", "c"):
        torch.testing.assert_close(again[name], value, rtol=0, atol=1e-4)
        for a in (0.5, 1.0, 2.5, 5.0, 10.0):
            answer = scm.predict(noise, {"a": a})[name]
            assert ends[0] <= answer.min() and answer.max() <= ends[1]
    assert (scm.predict(noise, {"a": 10.0})["c"] == ends[1]).any(), "without ends it would leave them"
    drawn = scm.sample(2_000, seeded())
    assert all(ends[0] <= drawn[name].min() and drawn[name].max() <= ends[1] for name in ("b", "c"))


def test_a_sigmoid_of_a_short_range_has_finite_noise_at_its_ends() -> None:
    """The default margin is half a grey level, which a range of 0 to 1 does not have."""
    for high in (0.01, 0.5, 1.0):
        mechanism = ScaledSigmoid(0.0, high, {}, bias=0.0, scale=1.0)
        value = torch.tensor([0.0, high / 4, high])
        noise = mechanism.abduct(value, {})
        assert noise.eps.isfinite().all() and noise.eps[0] < noise.eps[1] < noise.eps[2]
        torch.testing.assert_close(mechanism.predict(noise, {}), value)


def test_noise_does_not_follow_what_becomes_of_its_observation() -> None:
    obs = {"a": torch.tensor([2.0, 3.0]), "d": torch.tensor([1, 2])}
    scm = SCM({"a": GammaRoot(0.5, 10, 5.0), "d": CategoricalRoot(3)}, {})
    noise = scm.abduct(obs)
    obs["a"][0], obs["d"][0] = 9.0, 0
    answer = scm.predict(noise)
    answer["a"][1] = 9.0
    assert scm.predict(noise)["a"].tolist() == [2, 3] and noise["d"].tolist() == [1, 2]


def test_noise_of_another_batch_is_refused() -> None:
    noise = CHAIN.abduct(OBS)
    with pytest.raises(InputError, match="the noise of a is of a batch of 2, observed a of one of 1"):
        CHAIN.predict(noise, {}, {name: value[:1] for name, value in OBS.items()})
    with pytest.raises(InputError, match="the noise of a is of a batch of 2, b of one of 1"):
        CHAIN.predict({**noise, "b": noise["b"][:1]})
    with pytest.raises(InputError, match="the noise lacks c; it needs a, b, c"):
        CHAIN.predict({name: noise[name] for name in "ab"})
