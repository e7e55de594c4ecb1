"""Intervals for means over test images, and for their differences."""

import functools

import torch
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_interval(values: Tensor, seed: int = 0) -> Tensor:
    """Return the bootstrap percentile interval of the mean over images (Efron and Tibshirani 1993, chapter 13).

    The images are drawn again `RESAMPLES` times with replacement, the same ones for all values of equal length, so
    that the interval of a paired difference is that of the differences of pairs.

    Args:
        values: one row for each image, shape (N,) or (N, M).
        seed: of the draws.

    Returns:
        Lower and upper end, shape (2,) or (2, M), in the dtype of ``values``.
    """
    means = _resampling(len(values), seed) @ values.double().cpu()
    tail = (1 - LEVEL) / 2
    ends = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return ends.to(values.dtype)


@functools.lru_cache(maxsize=1)
def _resampling(n: int, seed: int) -> Tensor:
    """Return the weights (RESAMPLES, n) of the images in each draw."""
    drawn = torch.randint(n, (RESAMPLES, n), generator=torch.Generator().manual_seed(seed))
    weights = torch.full_like(drawn, 1 / n, dtype=torch.float64)
    return torch.zeros(RESAMPLES, n, dtype=torch.float64).scatter_add_(1, drawn, weights)
