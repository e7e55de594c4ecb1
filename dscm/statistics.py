"""Means and F1 over test images, and intervals for them and for their differences."""

import functools

import torch
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95


def confusion(got: Tensor, wanted: Tensor) -> Tensor:
    """Return the cell of the confusion table that each binary prediction falls into.

    Args:
        got, wanted: 0 or 1, shape (N,).

    Returns:
        Indicators of true positives, false positives and false negatives, float64, shape (N, 3).
    """
    got, wanted = got.bool(), wanted.bool()
    return torch.stack([got & wanted, got & ~wanted, ~got & wanted], dim=1).double()


def f1_score(shares: Tensor) -> Tensor:
    """Compute ``F1 = 2·TP / (2·TP + FP + FN)`` from counts, or means, of `confusion`'s columns.

    Args:
        shares: shape (…, 3).

    Returns:
        Shape (…,); 1 where there is nothing to find and nothing was found.
    """
    hits, false, missed = (2 * shares[..., 0], shares[..., 1], shares[..., 2])
    total = hits + false + missed
    return torch.where(total > 0, hits / total.clamp_min(1e-12), torch.ones_like(total))


def summarise(metric: str, values: Tensor) -> Tensor:
    """Sum the images' numbers up: their mean, or F1 where each image has its cell of the confusion table.

    Args:
        metric: the metric's name; `f1_score` is for ``f1``.
        values: shape (N, …); F1 takes `confusion`'s (N, 3).

    Returns:
        Shape (…), and () of F1.
    """
    means = values.double().mean(dim=0)
    return f1_score(means) if metric == "f1" else means


def bootstrap_interval(metric: str, values: Tensor, other: Tensor | None = None, seed: int = 0) -> Tensor:
    """Return the bootstrap percentile interval of `summarise` (Efron and Tibshirani 1993, chapter 13).

    The images are drawn again `RESAMPLES` times with replacement, the same ones for all values of equal length, so
    that the interval of a difference is that of a paired difference.

    Args:
        metric, values: as in `summarise`; values of shape (N,) or (N, M).
        other: what is subtracted after summing up, on the same images; None subtracts nothing.
        seed: of the draws.

    Returns:
        Lower and upper end, float64, shape (2,) or (2, M).
    """
    means = _resampling(len(values), seed) @ values.double().cpu()
    drawn = f1_score(means) if metric == "f1" else means
    if other is not None:
        means = _resampling(len(values), seed) @ other.double().cpu()
        drawn = drawn - (f1_score(means) if metric == "f1" else means)
    tail = (1 - LEVEL) / 2
    return torch.quantile(drawn, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)


@functools.lru_cache(maxsize=1)
def _resampling(n: int, seed: int) -> Tensor:
    """Return the weights (RESAMPLES, n) of the images in each draw."""
    drawn = torch.randint(n, (RESAMPLES, n), generator=torch.Generator().manual_seed(seed))
    weights = torch.full_like(drawn, 1 / n, dtype=torch.float64)
    return torch.zeros(RESAMPLES, n, dtype=torch.float64).scatter_add_(1, drawn, weights)
