"""Bins of a variable's values, as the benchmark of Melistas et al. (2024) tells like values from unlike ones."""

import torch
from torch import Tensor

INTERVALS = 9


def bin_edges(values: Tensor) -> Tensor:
    """Return the edges of bins: the mean of the values within each of `INTERVALS` equal intervals of their range.

    The benchmark fixes the range to that of its data set; here it is the range of ``values``, and the highest value
    belongs to the last interval. An interval without values has no edge.

    Args:
        values: shape (N,).

    Returns:
        At most `INTERVALS` edges, ascending, float64.
    """
    values = values.double()
    low, high = values.aminmax()
    bounds = low + torch.arange(1, INTERVALS, device=values.device) * (high - low) / INTERVALS
    interval = torch.bucketize(values, bounds, right=True)
    count = torch.bincount(interval, minlength=INTERVALS)
    total = torch.zeros_like(count, dtype=torch.float64).index_add_(0, interval, values)
    return (total / count)[count > 0]


def group_values(values: Tensor, reference: Tensor, discrete: bool) -> Tensor:
    """Number the groups of like values: the classes of a discrete variable, the bins of any other.

    Args:
        values: shape (N,).
        reference: the values, (M,), that give the edges of the bins.
        discrete: whether the values are classes.

    Returns:
        int64, (N,); of bins the number of `bin_edges` that are not above the value.
    """
    if discrete:
        return values.long()
    return torch.bucketize(values.double(), bin_edges(reference), right=True)
