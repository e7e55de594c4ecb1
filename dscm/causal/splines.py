"""Monotone rational-quadratic splines: invertible maps of the real line, the identity outside a box.

Pure functions, in any dtype and on any device. Source: Durkan, Bekasov, Murray and Papamakarios, "Neural Spline Flows",
2019, section 3.1; the formulas are those of Gregory and Delbourgo 1982.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 1e-3  # of a bin's share of the box, and of the slope at a knot


class Spline(NamedTuple):
    """Knots of a spline for each element: positions ``x`` and ``y`` and slopes, each (…, bins + 1)."""

    x: Tensor
    y: Tensor
    slope: Tensor


class Bin(NamedTuple):
    """The bin of each element: lower knot, width, height, and the slopes at both ends, each (…)."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    slope: Tensor
    next_slope: Tensor


def parameter_count(bins: int) -> int:
    """Count the parameters of `make_spline`: ``bins`` widths, ``bins`` heights and the slopes between them."""
    return 3 * bins - 1


def make_spline(parameters: Tensor, bound: float) -> Spline:
    """Turn unconstrained parameters into increasing knots; zeros give the identity.

    Args:
        parameters: shape (…, 3·bins − 1).
        bound: the box is [−bound, bound] on both axes.
    """
    bins = (parameters.shape[-1] + 1) // 3
    widths, heights, slopes = parameters.split([bins, bins, bins - 1], dim=-1)
    inner = F.softplus(slopes + math.log(math.expm1(1 - LEAST))) + LEAST  # 1 at zero
    return Spline(_knots(widths, bound), _knots(heights, bound), F.pad(inner, (1, 1), value=1.0))


def forward(spline: Spline, x: Tensor) -> tuple[Tensor, Tensor]:
    """Map ``x`` (…) through the spline.

    Returns:
        ``y`` and the log of its slope there, each (…).
    """
    inside = x.abs() < spline.x[..., -1]
    b = _find(spline, spline.x, x)
    share = ((x - b.x) / b.width).clamp(0, 1)
    y, log_slope = _rise(b, share)
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0)


def inverse(spline: Spline, y: Tensor) -> Tensor:
    """Find the ``x`` (…) that `forward` maps to ``y`` (…): the root of a quadratic in each bin."""
    inside = y.abs() < spline.y[..., -1]
    b = _find(spline, spline.y, y)
    rise = (y - b.y).clamp_min(0).minimum(b.height)
    mean = b.height / b.width
    bend = b.slope + b.next_slope - 2 * mean
    quadratic = b.height * (mean - b.slope) + rise * bend
    linear = b.height * b.slope - rise * bend
    constant = -mean * rise
    root = (linear.square() - 4 * quadratic * constant).clamp_min(0).sqrt()
    share = 2 * constant / (-linear - root)  # this form of the root has no cancellation
    return torch.where(inside, b.x + share * b.width, y)


def _knots(parameters: Tensor, bound: float) -> Tensor:
    """Turn unconstrained sizes (…, bins) into positions (…, bins + 1) from −bound to bound."""
    bins = parameters.shape[-1]
    shares = LEAST + (1 - LEAST * bins) * parameters.softmax(dim=-1)
    positions = F.pad(2 * bound * shares.cumsum(dim=-1) - bound, (1, 0), value=-bound)
    return torch.cat([positions[..., :-1], torch.full_like(positions[..., :1], bound)], dim=-1)


def _find(spline: Spline, knots: Tensor, at: Tensor) -> Bin:
    """Find the bin of each element of ``at`` among ``knots``, the spline's x or y."""
    bins = knots.shape[-1] - 1
    index = (torch.searchsorted(knots.contiguous(), at.detach()[..., None].contiguous(), right=True) - 1).clamp(
        0, bins - 1
    )

    def pick(values: Tensor, step: int) -> Tensor:
        return values.gather(-1, index + step)[..., 0]

    x, y = pick(spline.x, 0), pick(spline.y, 0)
    return Bin(x, y, pick(spline.x, 1) - x, pick(spline.y, 1) - y, pick(spline.slope, 0), pick(spline.slope, 1))


def _rise(b: Bin, share: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the value and the log slope of each element at a share of its bin."""
    mean, rest = b.height / b.width, 1 - share
    below = mean + (b.slope + b.next_slope - 2 * mean) * share * rest
    y = b.y + b.height * (mean * share.square() + b.slope * share * rest) / below
    top = b.next_slope * share.square() + 2 * mean * share * rest + b.slope * rest.square()
    return y, 2 * mean.log() + top.log() - 2 * below.log()
