"""Gaussian divergences, and likelihoods of pixels.

Pure functions, in any dtype and on any device.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.special import log_ndtr

from dscm.causal.draws import Source, draw_normal

HALF_LEVEL = 1 / 255  # half the step between grey levels on [-1, 1]
LEAST = 1e-6  # of the difference of two log Φ; a standard deviation of 1 on [-1, 1] makes it 0.006


def gaussian_kl(mean: Tensor, log_std: Tensor, prior_mean: Tensor, prior_log_std: Tensor) -> Tensor:
    """Compute ``KL(N(mean, std²) ‖ N(prior_mean, prior_std²))`` in nats, element by element."""
    ratio = (2 * (log_std - prior_log_std)).exp()
    distance = ((mean - prior_mean) * (-prior_log_std).exp()).square()
    return prior_log_std - log_std + (ratio + distance - 1) / 2


def sample_gaussian(mean: Tensor, log_std: Tensor, generator: Source) -> Tensor:
    """Sample N(mean, std²) by reparametrisation, ``mean + std·ε``."""
    return mean + log_std.exp() * draw_normal(mean.shape, generator)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute the log density of N(mean, std²) at ``x``, element by element."""
    return -((x - mean) * (-log_std).exp()).square() / 2 - log_std - math.log(2 * math.pi) / 2


def discretised_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute the log probability of the grey level at ``x`` under a Gaussian over [-1, 1], element by element.

    ``log(Φ(b) − Φ(a)) = log Φ(b) + log(1 − exp(log Φ(a) − log Φ(b)))`` with a and b the standardised ends of the level,
    mirrored to lie below the mean: so neither value nor gradient underflows in float32, however far the level is from
    the mean. The first and the last level take the tails (Salimans et al. 2017).
    """
    scale, distance = (-log_std).exp(), x - mean
    tail = x.abs() > 1 - HALF_LEVEL
    below = torch.where(tail, -distance * x.sign(), -distance.abs())  # the middle of the level, mirrored
    upper = log_ndtr((below + HALF_LEVEL) * scale)
    lower = log_ndtr((below - HALF_LEVEL) * scale)
    return torch.where(tail, upper, upper + (-torch.expm1((lower - upper).clamp_max(-LEAST))).log())


LIKELIHOODS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gaussian": gaussian_log_prob,
    "discretised": discretised_log_prob,
}
