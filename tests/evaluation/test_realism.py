"""Kernel and Fréchet distances: by hand, between Gaussians, and of models that are null or perfect."""

import math

import pytest
import torch
from torch import Tensor

from dscm.evaluation.realism import frechet_distance, gaussian_frechet, kernel_shares, lacks_images, measure_realism
from dscm.evaluation.statistics import bootstrap_interval

F64 = torch.float64


def draw(n: int, features: int, mean: float = 0.0, seed: int = 0) -> Tensor:
    """Draw Gaussian features."""
    return mean + torch.randn(n, features, generator=torch.Generator().manual_seed(seed), dtype=F64)


def naive_distance(x: Tensor, y: Tensor) -> float:
    """Compute the unbiased squared discrepancy pair by pair."""

    def k(a: Tensor, b: Tensor) -> float:
        return ((a @ b).item() / len(a) + 1) ** 3

    def within(z: Tensor) -> float:
        pairs = [k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(pairs) / len(pairs)

    return within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


def test_kernel_distance_by_hand() -> None:
    """Counterfactuals all 1, real images all 0: (1 + 1)³ + 1 − 2·1 = 7; and of the real ones among themselves 0."""
    shares = kernel_shares(torch.ones(6, 5), torch.zeros(6, 5))
    torch.testing.assert_close(shares, torch.full((6,), 7.0, dtype=F64))
    assert kernel_shares(torch.zeros(6, 5), torch.zeros(6, 5)).abs().max() == 0


def test_kernel_distance_crosses_the_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counterfactuals of each half with the real images of the other, however many rows there are at a time."""
    monkeypatch.setattr("dscm.evaluation.realism.CHUNK", 3)
    x, y = draw(16, 3, 0.5), draw(16, 3, seed=1)
    expected = (naive_distance(x[::2], y[1::2]) + naive_distance(x[1::2], y[::2])) / 2
    assert kernel_shares(x, y).mean().item() == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_between_gaussians() -> None:
    """Of N(0, 1) and N(1, 1), by their moments: 4 + 32 − 2·7 = 22; the interval covers it, and its width is right."""
    hits, spread, widths = 0, [], []
    for seed in range(20):
        shares = kernel_shares(draw(400, 1, seed=2 * seed), draw(400, 1, 1.0, seed=2 * seed + 1))
        low, high = bootstrap_interval("kernel", shares).tolist()
        hits += low < 22 < high
        spread.append(shares.mean().item())
        widths.append((high - low) / 3.92)
    assert hits >= 16
    assert sum(widths) / 20 == pytest.approx(torch.tensor(spread).std().item(), rel=0.5)


def test_frechet_distance_of_known_gaussians() -> None:
    """Equal ones 0; of diagonal ones the squared differences; of two by two the closed form of the trace."""
    mean, one = torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)
    assert gaussian_frechet(mean, one, mean, one).item() == pytest.approx(0, abs=1e-12)
    wide = torch.diag(torch.tensor([4.0, 9.0], dtype=F64))
    assert gaussian_frechet(mean, one, mean + 3, wide).item() == pytest.approx(18 + 1 + 4)
    a = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=F64)
    b = torch.tensor([[1.0, -0.6], [-0.6, 3.0]], dtype=F64)
    overlap = math.sqrt((a @ b).trace() + 2 * math.sqrt(torch.det(a @ b)))
    assert gaussian_frechet(mean, a, mean, b).item() == pytest.approx(7 - 2 * overlap)
    singular = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=F64)
    assert gaussian_frechet(mean, singular, mean, singular).item() == pytest.approx(0, abs=1e-7)


def test_frechet_distance_of_samples() -> None:
    """A set and itself moved by 1: the number of features; too few images: NaN, and why."""
    x = draw(100, 4)
    assert frechet_distance(x, x + 1).item() == pytest.approx(4)
    assert frechet_distance(x[:7], x).isnan()
    assert lacks_images(7, 4) == "7 images on a side are fewer than 2 for each of 4 features"
    assert not lacks_images(8, 4)


def test_unchanged_images_score_the_floor() -> None:
    """And images from the same distribution about as much; others more. Odd numbers of images are allowed."""
    real = draw(801, 8)
    floor, null = measure_realism(real, real), measure_realism(real.clone(), real)
    fair, far = measure_realism(draw(801, 8, seed=5), real), measure_realism(real + 0.5, real)
    for name in ("kernel", "frechet"):
        assert torch.equal(floor[name], null[name])
        assert (fair[name].mean() - floor[name].mean()).abs() < 0.1 < far[name].mean() - floor[name].mean()
