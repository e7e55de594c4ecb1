"""Means and ratios over test images, and intervals for them and for their differences."""

import functools

import torch
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95
RATIOS = ("f1", "removed", "inside_l1", "outside_l1")  # metrics of which an image has numerator and denominator


def f1_terms(got: Tensor, wanted: Tensor) -> Tensor:
    """Return what binary predictions add to ``F1 = 2·TP / (2·TP + FP + FN)``.

    Args:
        got, wanted: 0 or 1, shape (N,).

    Returns:
        Each prediction's part of the numerator and of the denominator, float64, shape (N, 2).
    """
    got, wanted = got.double(), wanted.double()
    return torch.stack([2 * got * wanted, got + wanted], dim=1)


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return what images add to a mean over those ``chosen``, float64, (N, 2); both arguments are (N,)."""
    return torch.stack([values.double() * chosen, chosen.double()], dim=1)


def summarise(metric: str, values: Tensor) -> Tensor:
    """Sum the images' numbers up: their mean, or the ratio of sums where each has a numerator and a denominator.

    Args:
        metric: the metric's name, perhaps one of `RATIOS`.
        values: shape (N, …); of a ratio (N, 2).

    Returns:
        Shape (…); of a ratio (), NaN where no image counts.
    """
    return _finish(metric, values.double().mean(dim=0))


def _finish(metric: str, means: Tensor) -> Tensor:
    """Turn means over images, (…, 2) of a ratio, into the metric."""
    return means[..., 0] / means[..., 1] if metric in RATIOS else means


def bootstrap_interval(metric: str, values: Tensor, other: Tensor | None = None, seed: int = 0) -> Tensor:
    """Return the bootstrap percentile interval of `summarise` (Efron and Tibshirani 1993, chapter 13).

    The images are drawn again `RESAMPLES` times with replacement, the same ones for all values of equal length, so
    that the interval of a difference is that of a paired difference.

    Args:
        metric, values: as in `summarise`; values of shape (N,) or (N, M). Draws in which no image counts are left
            out of a ratio's interval.
        other: what is subtracted after summing up, on the same images; None subtracts nothing.
        seed: of the draws.

    Returns:
        Lower and upper end, float64, shape (2,) or (2, M).
    """
    weights = _resampling(len(values), seed)
    drawn = _finish(metric, weights @ values.double().cpu())
    if other is not None:
        drawn = drawn - _finish(metric, weights @ other.double().cpu())
    tail = (1 - LEVEL) / 2
    return torch.nanquantile(drawn, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)


@functools.lru_cache(maxsize=1)
def _resampling(n: int, seed: int) -> Tensor:
    """Return the weights (RESAMPLES, n) of the images in each draw."""
    drawn = torch.randint(n, (RESAMPLES, n), generator=torch.Generator().manual_seed(seed))
    weights = torch.full_like(drawn, 1 / n, dtype=torch.float64)
    return torch.zeros(RESAMPLES, n, dtype=torch.float64).scatter_add_(1, drawn, weights)
