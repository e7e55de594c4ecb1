"""Guidance is a wrapper whose special cases are known."""

import torch
from torch import Tensor

from dscm.guidance import guided

X, T, C = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.ones(3), torch.ones(3, 2)
NULL = torch.tensor([-1.0, 0.5])


def eps(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
    """A noise function that depends on everything."""
    return x * t[:, None, None, None] + c.sum(dim=1)[:, None, None, None]


def test_weight_one_is_conditional_and_never_evaluates_the_null_token() -> None:
    seen = []
    fn = guided(lambda x, t, c: seen.append(c) or eps(x, t, c), C, NULL, 1.0)
    assert torch.equal(fn(X, T), eps(X, T, C)) and len(seen) == 1 and torch.equal(seen[0], C)


def test_weight_zero_is_unconditional() -> None:
    torch.testing.assert_close(guided(eps, C, NULL, 0.0)(X, T), eps(X, T, NULL.expand(3, 2)))


def test_weight_extrapolates_linearly() -> None:
    without, given = eps(X, T, NULL.expand(3, 2)), eps(X, T, C)
    torch.testing.assert_close(guided(eps, C, NULL, 3.0)(X, T), without + 3 * (given - without))


def test_one_token_for_each_image_and_one_pass() -> None:
    sizes = []
    fn = guided(lambda x, t, c: sizes.append(len(x)) or eps(x, t, c), C, NULL.expand(3, 2), 1.5)
    torch.testing.assert_close(fn(X, T), guided(eps, C, NULL, 1.5)(X, T))
    assert sizes == [6]
