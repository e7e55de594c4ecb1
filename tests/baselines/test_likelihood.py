"""Densities and divergences against those of torch."""

import math

import pytest
import torch

from dscm.baselines.likelihood import discretised_log_prob, gaussian_kl, gaussian_log_prob
from tests.support.image_mechanisms import seeded


def test_divergence_and_density_are_those_of_torch() -> None:
    mean, log_std, other, other_log = torch.randn(4, 1000, generator=seeded(5), dtype=torch.float64)
    p, q = torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(other, other_log.exp())
    torch.testing.assert_close(gaussian_kl(mean, log_std, other, other_log), torch.distributions.kl_divergence(p, q))
    x = torch.randn(1000, generator=seeded(6), dtype=torch.float64)
    torch.testing.assert_close(gaussian_log_prob(x, mean, log_std), p.log_prob(x))


def test_a_grey_level_has_the_probability_of_its_interval() -> None:
    """Half a level to each side, of the outermost ones all beyond."""
    mean, log_std = torch.tensor([0.2, -0.9, 0.95]).double(), torch.tensor([-0.5, -1.0, 0.0]).double()
    normal, half = torch.distributions.Normal(mean, log_std.exp()), 1 / 255
    for level in (0, 100, 255):
        x = torch.full_like(mean, level / 127.5 - 1)
        above = normal.cdf(x + half) if level < 255 else torch.ones_like(mean)
        below = normal.cdf(x - half) if level > 0 else torch.zeros_like(mean)
        torch.testing.assert_close(discretised_log_prob(x, mean, log_std), (above - below).log(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("log_std", [-4.0, -1.0, 1.0])
def test_grey_levels_have_all_the_probability(log_std: float) -> None:
    """The probabilities of the 256 levels add up to one, also of means outside the range."""
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean in (-1.3, -1.0, 0.1, 0.999):
        total = discretised_log_prob(levels, torch.tensor(mean).double(), torch.tensor(log_std).double()).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("z", [-300.0, -30.0, -5.5, 0.3, 5.5, 30.0, 300.0])
@pytest.mark.parametrize("log_std", [-4.5, -1.0, 1.0])
@pytest.mark.parametrize("level", [0, 140, 255])
def test_the_log_probability_of_a_level_has_a_gradient_everywhere(level: int, log_std: float, z: float) -> None:
    """In float32, also many standard deviations away, value and gradients are those of float64."""
    found = []
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor(level / 127.5 - 1, dtype=dtype)
        scale = torch.tensor(log_std, dtype=dtype, requires_grad=True)
        mean = (x - z * scale.detach().exp()).requires_grad_()
        value = discretised_log_prob(x, mean, scale)
        found.append([value.item(), *(g.item() for g in torch.autograd.grad(value, (mean, scale)))])
    assert found[0] == pytest.approx(found[1], rel=0.01, abs=1e-4)
    inside = level == 140 or z * (x.item() > 0 or -1) > 0  # beyond an outermost level its probability is 1
    if inside and abs(z) > 5:
        assert math.copysign(1, found[0][1]) == math.copysign(1, z) and abs(found[0][1]) > 1
