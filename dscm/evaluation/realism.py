"""Realism: distances between the features of counterfactuals and those of real test images.

A counterfactual keeps most of its own image, so the two are no independent draws. The images are therefore dealt into
two halves, those of even and of odd number; the counterfactuals of each half are compared with the real images of the
other one, and the two distances are averaged. What real images score by the same rule, one half against the other, is
the floor, and a model that returns every image as it is scores just that.
"""

import math

import torch
from torch import Tensor

CHUNK = 1000  # rows of a kernel matrix at a time
LEAST = 2  # images for each feature that a covariance is estimated from


def measure_realism(counterfactual: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Compare counterfactuals with real images by both distances.

    Args:
        counterfactual: features of a counterfactual of each image, (N, F), N at least 4.
        real: features of the images themselves, (N, F), in the same order; as both arguments they give the floor.

    Returns:
        ``kernel``, float64 (N,), the `kernel_shares`, whose mean is the kernel distance; ``frechet``, float64 (), the
        Fréchet distance, NaN where `lacks_images` says so.
    """
    frechet = [frechet_distance(counterfactual[i::2], real[1 - i :: 2]) for i in range(2)]
    return {"kernel": kernel_shares(counterfactual, real), "frechet": torch.stack(frechet).mean()}


def kernel_shares(counterfactual: Tensor, real: Tensor) -> Tensor:
    """Return each image's share in the kernel distance, the unbiased squared maximum mean discrepancy.

    ``E k(x, x') + E k(y, y') − 2 E k(x, y)`` with ``k(x, y) = (xᵀy/F + 1)³`` (Bińkowski et al. 2018). The shares are
    jackknife pseudo-values to first order: their mean is the distance, and resampling them gives its interval (wide
    where the distance is near zero), and that of the difference of two models on the same images.

    Args:
        counterfactual, real: as in `measure_realism`.

    Returns:
        float64, (N,).
    """
    shares = torch.zeros(len(real), dtype=torch.float64, device=real.device)
    for i in range(2):
        x, y = counterfactual[i::2].double(), real[1 - i :: 2].double()
        rows, columns = _kernel_sums(x, y)
        shares[i::2] += _pseudo_values(_within(x) - rows / len(y))
        shares[1 - i :: 2] += _pseudo_values(_within(y) - columns / len(x))
    return shares


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the Fréchet distance between Gaussians that are fitted to two sets of features.

    Args:
        x, y: features, (N, F) and (M, F).

    Returns:
        float64, (); NaN where `lacks_images` says so.
    """
    if lacks_images(min(len(x), len(y)), x.shape[1]):
        return torch.tensor(math.nan, dtype=torch.float64)
    return gaussian_frechet(*_moments(x), *_moments(y)).clamp_min(0).cpu()  # rounding goes below zero


def gaussian_frechet(mean_x: Tensor, covariance_x: Tensor, mean_y: Tensor, covariance_y: Tensor) -> Tensor:
    """Return ``‖μx − μy‖² + tr(Σx + Σy − 2(Σx^½ Σy Σx^½)^½)``, the squared Fréchet distance of two Gaussians.

    The product is symmetric, so the trace of its root is the sum of the roots of its eigenvalues; those that rounding
    made negative count as zero (Dowson and Landau 1982; Heusel et al. 2017).

    Args:
        mean_x, mean_y: shape (F,), float64.
        covariance_x, covariance_y: shape (F, F), float64.
    """
    values, vectors = torch.linalg.eigh(covariance_x)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root @ covariance_y @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    return (mean_x - mean_y).square().sum() + covariance_x.trace() + covariance_y.trace() - 2 * overlap


def lacks_images(n: int, features: int) -> str:
    """Tell why n images are too few for a Fréchet distance in so many features; empty where they suffice.

    A covariance of fewer images is singular or nearly so, and the distance then measures their number.
    """
    if n >= LEAST * features:
        return ""
    return f"{n} images on a side are fewer than {LEAST} for each of {features} features"


def _pseudo_values(share: Tensor) -> Tensor:
    """Double the deviations from the mean, (n,): each image occurs twice in every pair of the distance."""
    return 2 * share - share.mean()


def _within(x: Tensor) -> Tensor:
    """Return the mean kernel of each image, (n,), with the others of its set, (n, F)."""
    return (_kernel_sums(x, x)[0] - _kernel(x.square().sum(dim=1), x.shape[1])) / (len(x) - 1)


def _kernel_sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of the rows, (n,), and of the columns, (m,), of the kernel matrix of two sets."""
    rows, columns = [], torch.zeros(len(y), dtype=x.dtype, device=x.device)
    for part in x.split(CHUNK):
        kernel = _kernel(part @ y.T, x.shape[1])
        rows.append(kernel.sum(dim=1))
        columns += kernel.sum(dim=0)
    return torch.cat(rows), columns


def _kernel(product: Tensor, features: int) -> Tensor:
    """Return the polynomial kernel of inner products."""
    return (product / features + 1) ** 3


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean, (F,), and the unbiased covariance, (F, F), of features (N, F), in float64."""
    mean = x.mean(dim=0, dtype=torch.float64)
    scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for part in x.split(CHUNK):
        scatter += (part - mean).T @ (part - mean)
    return mean, scatter / (len(x) - 1)
