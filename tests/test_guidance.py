"""Classifier-free guidance, on a noise predictor that writes down how it is called."""

import pytest
import torch
from torch import Tensor

from dscm.guidance import guided


class Predictor:
    """Compute ``sin(x)·(1 + Σc) + t + Σc²``, and remember every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        assert len(x) == len(t) == len(c)
        self.calls.append((x.clone(), t.clone(), c.clone()))
        spread = (slice(None), None, None, None)
        return x.sin() * (1 + c.sum(1))[spread] + t[spread] + c.square().sum(1)[spread]


GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(3, 1, 2, 2, generator=GENERATOR, dtype=torch.float64)
T = torch.tensor([10.0, 500.0, 999.5], dtype=torch.float64)
CONDITION = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
NULL = torch.randn(4, generator=GENERATOR, dtype=torch.float64)
GIVEN, WITHOUT = Predictor()(X, T, CONDITION), Predictor()(X, T, NULL.expand(3, 4))


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
    Predictor()(X, T, plain.expand(3, 4)).sum().backward()
    torch.testing.assert_close(token.grad, -2 * plain.grad, rtol=0, atol=1e-10)
