"""The encoder of the code, and its priors."""

import math

import pytest
import torch
from torch import nn

from dscm.diffusion.encoder import Encoder
from dscm.diffusion.prior import ConditionalPrior, StandardPrior
from dscm.layers import zero_init
from tests.support.networks import randn, scatter


@pytest.mark.parametrize(("channels", "size", "patch"), [(1, 28, 2), (3, 28, 1), (1, 8, 1)])
def test_encoder_returns_one_normal_per_image(channels: int, size: int, patch: int) -> None:
    """Batch shape (B, code_dim), and a gradient reaches every parameter."""
    torch.manual_seed(0)
    encoder = scatter(Encoder(channels, 4, channels=8, multipliers=(1, 2), patch=patch))
    q = encoder(randn(5, channels, size, size))
    assert q.mean.shape == q.stddev.shape == (5, 4)
    (q.mean.square().sum() + q.stddev.square().sum()).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("log_std", "clamped"), [(-50.0, -7.0), (-2.0, -2.0), (50.0, 2.0)])
def test_spread_of_code_and_prior_is_clamped(log_std: float, clamped: float) -> None:
    """The logarithm of σ stays within [-7, 2], and is what the network says in between."""
    encoder, prior = Encoder(1, 3, channels=4, multipliers=(1,)), ConditionalPrior(2, 3)
    for head in (encoder.head, prior.net[-1]):
        zero_init(head)
        nn.init.constant_(head.bias[3:], log_std)
    for normal in (encoder(torch.ones(2, 1, 8, 8)), prior(torch.ones(2, 2), torch.ones(2, 3))):
        torch.testing.assert_close(normal.stddev, torch.full((2, 3), math.exp(clamped)))


def test_conditional_prior_starts_standard_and_then_depends_on_parents() -> None:
    """The last layer is zero at first; afterwards both mean and spread follow the parents."""
    prior, parents, like = ConditionalPrior(2, 3), randn(4, 2).float(), torch.zeros(4, 3)
    start, standard = prior(parents, like), StandardPrior(2, 3)(parents, like)
    for normal in (start, standard):
        assert torch.equal(normal.mean, torch.zeros(4, 3)) and torch.equal(normal.stddev, torch.ones(4, 3))
    moved = scatter(prior)(parents.double(), like.double())
    assert moved.mean.shape == (4, 3) and moved.mean.std(0).min() > 0 and moved.stddev.std(0).min() > 0
