"""Kernels that compare values of a variable, one for each kind."""

import math

import torch
from torch import Tensor

from dscm.causal.variables import Variable

WIDTHS = tuple((2 / 3) ** k for k in range(10))  # in standard deviations, or in radians
LEAKS = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)  # probability of another class


def candidates(variable: Variable) -> tuple[float, ...]:
    """List the bandwidths to choose from."""
    return LEAKS if variable.discrete else WIDTHS


def usual_bandwidth(variable: Variable, n: int) -> float:
    """Return a bandwidth to begin with, for ``n`` rows: of a Gaussian kernel about Scott's."""
    return 0.01 if variable.discrete else min(1.0, n**-0.2)


def log_kernel(variable: Variable, x: Tensor, y: Tensor, h: float) -> Tensor:
    """Compare two batches of values by the log of a kernel, a density or probability in x around y.

    A number has a Gaussian kernel, ``exp(−(x − y)² / 2h²) / h√2π``; a circular variable that of von Mises,
    ``exp((cos 2π(x − y) − 1) / h²)``, normalised; of c classes x is y with probability 1 − h, and any other with
    ``h / (c − 1)``.

    Args:
        variable: its kind and classes.
        x: shape (N,); numbers in standard deviations, circular ones as share of the period.
        y: shape (M,).
        h: the bandwidth.

    Returns:
        Shape (N, M), in the dtype of ``x``.

    Source: Aitchison and Aitken 1976, Multivariate binary discrimination by the kernel method, for classes.
    """
    if variable.discrete:
        other = math.log(h / max(1, (variable.classes or 2) - 1))
        return torch.where(x[:, None] == y, math.log(1 - h), torch.full((), other, dtype=x.dtype))
    difference = x[:, None] - y
    if variable.kind == "circular":
        constant = math.log(2 * math.pi) + torch.special.i0e(torch.tensor(h**-2, dtype=torch.float64)).log().item()
        return ((2 * math.pi * difference).cos() - 1) / h**2 - constant
    return -0.5 * (difference / h) ** 2 - math.log(h * math.sqrt(2 * math.pi))
