"""Classifier-free guidance, on a noise predictor that writes down how it is called."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.guidance import EpsFn, Group, Interval, Intervals, Weights, guided, weigh


class Predictor:
    """Compute ``sin(x)·(1 + Σc) + t + Σc²``, and remember every condition bound and every call."""

    def __init__(self) -> None:
        self.bound: list[Tensor] = []
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, c: Tensor) -> EpsFn:
        self.bound.append(c)
        spread = (slice(None), None, None, None)

        def eps_fn(x: Tensor, t: Tensor) -> Tensor:
            assert len(x) == len(t) == len(c)
            self.calls.append((x.clone(), t.clone(), c.clone()))
            return x.sin() * (1 + c.sum(1))[spread] + t[spread] + c.square().sum(1)[spread]

        return eps_fn


GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(3, 1, 2, 2, generator=GENERATOR, dtype=torch.float64)
T = torch.tensor([10.0, 500.0, 999.5], dtype=torch.float64)
CONDITION = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
NULL = torch.randn(4, generator=GENERATOR, dtype=torch.float64)
FIRST, REST = torch.tensor([True, False, False, False]), torch.tensor([False, True, True, True])
MIXED = torch.where(REST, CONDITION, NULL)
GIVEN, WITHOUT = Predictor()(CONDITION)(X, T), Predictor()(NULL.expand(3, 4))(X, T)


def first(t: Tensor) -> float:
    """Take the first timestep for σ."""
    return t[0].item()


def test_weight_one_is_conditional_and_never_sees_the_null_token() -> None:
    """The result is the predictor's own, from one pass over a single batch, even if the null token is NaN."""
    eps = Predictor()
    assert torch.equal(guided(eps, CONDITION, NULL * torch.nan, 1.0)(X, T), GIVEN)
    assert len(eps.calls) == 1
    assert all(torch.equal(*pair) for pair in zip(eps.calls[0], (X, T, CONDITION)))


def test_weight_is_one_by_default() -> None:
    """Without a weight there is no guidance."""
    assert torch.equal(guided(Predictor(), CONDITION, NULL)(X, T), GIVEN)


def test_weight_zero_is_unconditional() -> None:
    """The condition drops out."""
    assert torch.equal(guided(Predictor(), CONDITION, NULL, 0)(X, T), WITHOUT)


@pytest.mark.parametrize("weight", [-1.0, 0.5, 1.5, 4.5])
def test_result_is_linear_in_the_weight(weight: float) -> None:
    """ε_ω = ε(∅) + ω·(ε(c) − ε(∅)), inside and outside of [0, 1]."""
    result = guided(Predictor(), CONDITION, NULL, weight)(X, T)
    torch.testing.assert_close(result, WITHOUT + weight * (GIVEN - WITHOUT), rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_null_may_be_one_token_or_one_per_image(weight: float) -> None:
    """(D,) and (B, D) agree where the rows are equal, and rows that differ reach their own images."""
    one = guided(Predictor(), CONDITION, NULL, weight)(X, T)
    assert torch.equal(guided(Predictor(), CONDITION, NULL.expand(3, 4).clone(), weight)(X, T), one)
    tokens = torch.stack([NULL, NULL + 1, NULL])
    several = guided(Predictor(), CONDITION, tokens, weight)(X, T)
    assert [torch.equal(a, b) for a, b in zip(one, several)] == [True, False, True]


def test_one_pass_over_a_doubled_batch() -> None:
    """Both predictions of a step come from one call, in which every image keeps its timestep."""
    eps = Predictor()
    result = guided(eps, CONDITION, NULL, 1.5)(X, T)
    (x, t, c), *others = eps.calls
    assert not others and result.shape == X.shape
    assert torch.equal(x, torch.cat([X, X])) and torch.equal(t, torch.cat([T, T]))
    rows = {tuple(row) for row in c.tolist()}
    assert len(c) == 6 and rows == {tuple(row) for row in [NULL.tolist(), *CONDITION.tolist()]}


def test_inputs_are_left_alone() -> None:
    """Images, timesteps, condition and token stay as they were."""
    inputs = [X.clone(), T.clone(), CONDITION.clone(), NULL.clone()]
    guided(Predictor(), inputs[2], inputs[3], 2.0)(inputs[0], inputs[1])
    assert all(torch.equal(*pair) for pair in zip(inputs, (X, T, CONDITION, NULL)))


def test_gradient_reaches_the_null_token() -> None:
    """A token can be tuned through the guided prediction: dε_ω/d∅ = (1 − ω)·dε/d∅."""
    token = NULL.clone().requires_grad_()
    guided(Predictor(), CONDITION, token, 3.0)(X, T).sum().backward()
    plain = NULL.clone().requires_grad_()
    Predictor()(plain.expand(3, 4))(X, T).sum().backward()
    torch.testing.assert_close(token.grad, -2 * plain.grad, rtol=0, atol=1e-10)


def test_conditions_are_bound_once_and_tokens_that_change_with_each_evaluation() -> None:
    """However many evaluations follow; where nothing is guided the prediction is the conditional one."""
    eps = Predictor()
    eps_fn = guided(eps, CONDITION, NULL, [Group(FIRST | REST, 1.5, (0.0, 100.0))], first)
    inside, outside = eps_fn(X, T), eps_fn(X, T.flip(0))
    assert torch.equal(outside, Predictor()(CONDITION)(X, T.flip(0))) and not torch.equal(inside, GIVEN)
    assert [torch.equal(eps_fn(X, T), inside) for _ in range(3)] == 3 * [True]
    assert [len(c) for c in eps.bound] == [3, 6] and len(eps.calls) == 5
    moving = Predictor()
    eps_fn = guided(moving, CONDITION, lambda t: NULL.expand(3, 4) + t[0], 1.5)
    for t in (T, T.flip(0)):
        assert torch.equal(eps_fn(X, t), guided(Predictor(), CONDITION, NULL + t[0], 1.5)(X, t))
    assert [len(c) for c in moving.bound] == [3, 6, 6]


# A weight for each group


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_groups_of_one_weight_are_as_one(weight: float) -> None:
    """The same as joint guidance, and as cheap: what cancels is not evaluated."""
    eps, joint = Predictor(), Predictor()
    result = guided(eps, CONDITION, NULL, [Group(FIRST, weight), Group(REST, weight)])(X, T)
    torch.testing.assert_close(result, guided(joint, CONDITION, NULL, weight)(X, T), rtol=0, atol=1e-12)
    assert [len(call[0]) for call in eps.calls] == [len(call[0]) for call in joint.calls]


def test_the_heavier_group_is_amplified_given_the_lighter() -> None:
    """ε(c_1) + ω·(ε(c) − ε(c_1)), c_1 without the amplified group; where the lighter weight is 1, ∅ has no say."""
    eps = Predictor()
    result = guided(eps, CONDITION, NULL, [Group(FIRST, 3.0), Group(REST, 1.0)])(X, T)
    mixed = Predictor()(MIXED)(X, T)
    torch.testing.assert_close(result, mixed + 3 * (GIVEN - mixed), rtol=0, atol=1e-12)
    assert [len(call[0]) for call in eps.calls] == [6]


def test_three_terms_in_one_pass() -> None:
    eps = Predictor()
    result = guided(eps, CONDITION, NULL, [Group(FIRST, 3.0), Group(REST, 2.0)])(X, T)
    mixed = Predictor()(MIXED)(X, T)
    torch.testing.assert_close(result, WITHOUT + 2 * (mixed - WITHOUT) + 3 * (GIVEN - mixed), rtol=0, atol=1e-12)
    assert [len(call[0]) for call in eps.calls] == [9]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("3", Weights(3.0)),
        ("thickness=3,others=1.5", Weights(1.5, (("thickness", 3.0),))),
        ("do=2", Weights(1.0, (("do", 2.0),))),
    ],
)
def test_weights_are_read_and_written(text: str, weights: Weights) -> None:
    assert Weights.read(text) == weights and Weights.read(str(weights)) == weights


@pytest.mark.parametrize("text", ["", "x", "a=", "a=0", "a=-1", "others=nan", "inf", "a=1,a=2", "a=1=2", "0"])
def test_weights_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError):
        Weights.read(text)


def test_do_stands_for_what_is_intervened_on() -> None:
    """A variable with a weight of its own keeps it; without an intervention nothing is emphasised."""
    weights = Weights.read("do=3,slant=2")
    assert weights.resolve(["digit", "slant"]) == Weights(1.0, (("digit", 3.0), ("slant", 2.0)))
    assert Weights.read("do=3").resolve([]).trivial and not Weights.read("do=3").trivial
    assert Weights.read("do=3,others=2").largest == 3


def test_one_variable_may_have_a_weight_where_it_is_intervened_on() -> None:
    weights = Weights.read("do=3,do.slant=2")
    assert weights.resolve(["digit", "slant"]) == Weights(1.0, (("digit", 3.0), ("slant", 2.0)))
    assert weights.by_target and weights.named == ["slant"] and Weights.read("do.slant=2").resolve(["digit"]).trivial


# An interval for each group


@pytest.mark.parametrize(
    ("sigma", "first_weight", "rest_weight"), [(5.0, 3.0, 1.0), (50.0, 3.0, 2.0), (500.0, 1.0, 2.0), (5000.0, 1.0, 1.0)]
)
def test_a_group_is_guided_in_its_own_interval(sigma: float, first_weight: float, rest_weight: float) -> None:
    """Elsewhere its weight is 1, and what then cancels is not evaluated."""
    eps, expected = Predictor(), Predictor()
    t = torch.full((3,), sigma, dtype=torch.float64)
    groups = [Group(FIRST, 3.0, (1.0, 100.0)), Group(REST, 2.0, (10.0, 1000.0))]
    result = guided(eps, CONDITION, NULL, groups, first)(X, t)
    constant = [Group(FIRST, first_weight), Group(REST, rest_weight)]
    assert torch.equal(result, guided(expected, CONDITION, NULL, constant)(X, t))
    assert len(eps.calls) == 1 and torch.equal(eps.calls[0][2], expected.calls[0][2])


def test_conditions_are_bound_once_for_each_set_of_weights() -> None:
    """Intervals that overlap make three; the null token is seen in none but the two where a weight is not 1."""
    eps = Predictor()
    groups = [Group(FIRST, 3.0, (0.0, 10.0)), Group(REST, 1.0)]
    eps_fn = guided(eps, CONDITION, NULL, groups, first)
    for level in (1.0, 20.0, 5.0, 30.0):
        eps_fn(X, torch.full((3,), level, dtype=torch.float64))
    assert [len(c) for c in eps.bound] == [3, 6] and [len(call[0]) for call in eps.calls] == [6, 3, 6, 3]


@pytest.mark.parametrize(
    ("text", "intervals", "plain"),
    [
        ("0.3:20", Intervals((0.3, 20.0)), (0.3, 20.0)),
        ("others=0.3:20", Intervals((0.3, 20.0)), (0.3, 20.0)),
        ("a=2:40, b=1:5,others=0:9", Intervals((0.0, 9.0), (("a", (2.0, 40.0)), ("b", (1.0, 5.0)))),
         "a=2:40,b=1:5,others=0:9"),
    ],
)  # fmt: skip
def test_intervals_are_read_and_written(text: str, intervals: Intervals, plain: Interval | str) -> None:
    assert Intervals.read(text) == intervals == Intervals.read(str(intervals)) == Intervals.read(plain)
    assert intervals.plain == plain


@pytest.mark.parametrize(
    "text", ["", "x", "1", "1:2:3", "a=1:2", "others=1", "others=2:1", "a=1:2,a=1:2,others=1:2", "-1:2", "0:inf", "a:b"]
)
def test_intervals_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match="guidance_interval .*(must be two numbers|must not be above)"):
        Intervals.read(text)


def test_every_variable_has_its_weight_and_its_interval() -> None:
    """Also where one is emphasised only because it is intervened on, in the images that the intervention changes."""
    weights, intervals = Weights.read("do=3,do.b=2,others=1"), Intervals.read("b=2:40,others=0:9")
    changed = torch.tensor([True, False, True])
    groups = weigh(weights, intervals, {"a": 1, "b": 3}, {"b": changed}, CONDITION)
    assert [(weight, interval) for _, weight, interval in groups] == [(1, (0, 9)), (2, (2, 40)), (1, (2, 40))]
    assert torch.equal(groups[0].entries, FIRST) and torch.equal(groups[1].entries, REST & changed[:, None])
    assert torch.equal(groups[1].entries | groups[2].entries, REST.expand(3, 4))
