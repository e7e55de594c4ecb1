"""Means and ratios over test images, and intervals for them and for their differences."""

import functools

import torch
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95
RATIOS = (  # metrics with numerators and denominators
    "f1",
    "added",
    "removed",
    "balanced",
    "kept",
    "inside_l1",
    "outside_l1",
    "covered",
    "usual",
    "rare",
)
CHANGED = "changed_"  # prefix of metrics that count only the images whose value an intervention changes


def f1_terms(observed: Tensor, target: Tensor) -> Tensor:
    """Return the contribution of binary predictions to ``F1 = 2·TP / (2·TP + FP + FN)``.

    Args:
        observed, target: 0 or 1, shape (N,).

    Returns:
        The numerator and denominator of each prediction, float64, shape (N, 2).
    """
    observed, target = observed.double(), target.double()
    return torch.stack([2 * observed * target, observed + target], dim=1)


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the contribution of images to a mean over those ``chosen``, float64, (N, 2); both arguments are (N,)."""
    return torch.stack([values.double() * chosen, chosen.double()], dim=1)


def is_ratio(metric: str) -> bool:
    """Tell whether each image contributes numerators and denominators to a metric, rather than a value."""
    return metric in RATIOS or metric.startswith(CHANGED) or metric.endswith("_cld")


def summarise(metric: str, values: Tensor) -> Tensor:
    """Compute the mean over images, or the ratio of sums where each has a numerator and a denominator.

    Args:
        metric: its name, as `is_ratio` takes it.
        values: shape (N, …); of a ratio (N, 2), and of the mean of K ratios (N, 2K), in pairs.

    Returns:
        Shape (…); of a ratio (), NaN where no image counts.
    """
    return _finish(metric, values.double().mean(dim=0))


def _finish(metric: str, means: Tensor) -> Tensor:
    """Convert means over images, (…, 2K) of the mean of K ratios, to the metric."""
    if not is_ratio(metric):
        return means
    pairs = means.unflatten(-1, (-1, 2))
    return (pairs[..., 0] / pairs[..., 1]).mean(dim=-1)


def bootstrap_interval(metric: str, values: Tensor, other: Tensor | None = None, seed: int = 0) -> Tensor:
    """Return the bootstrap percentile interval of `summarise` (Efron and Tibshirani 1993, chapter 13).

    The images are drawn `RESAMPLES` times with replacement, the same ones for all values of equal length, so the
    interval of a difference is that of a paired difference.

    Args:
        metric, values: as in `summarise`; values of shape (N,) or (N, M). Draws in which no image counts are left
            out of a ratio's interval.
        other: values on the same images, subtracted after `summarise`; None subtracts nothing.
        seed: the seed of the draws.

    Returns:
        Lower and upper end, float64, shape (2,) or (2, M).
    """
    weights = _resample(len(values), seed)
    drawn = _finish(metric, weights @ values.double().cpu())
    if other is not None:
        drawn = drawn - _finish(metric, weights @ other.double().cpu())
    tail = (1 - LEVEL) / 2
    return torch.nanquantile(drawn, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)


@functools.lru_cache(maxsize=2)  # of all images, and of a single number
def _resample(n: int, seed: int) -> Tensor:
    """Return the weights (RESAMPLES, n) of the images in each draw."""
    drawn = torch.randint(n, (RESAMPLES, n), generator=torch.Generator().manual_seed(seed))
    weights = torch.full_like(drawn, 1 / n, dtype=torch.float64)
    return torch.zeros(RESAMPLES, n, dtype=torch.float64).scatter_add_(1, drawn, weights)
