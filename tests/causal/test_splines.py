"""Rational-quadratic splines: increasing, invertible, with the right slope, and the identity where they should be."""

import pytest
import torch

from dscm.causal import splines

BINS, BOUND = 8, 4.0


def random_spline(n: int, scale: float = 3.0) -> splines.Spline:
    parameters = scale * torch.randn(n, splines.parameter_count(BINS), generator=torch.Generator().manual_seed(0))
    return splines.make_spline(parameters.double(), BOUND)


def test_there_and_back_inside_and_outside_the_box() -> None:
    """Also at the knots, at the corners of the box and far outside."""
    spline = random_spline(1000)
    x = torch.linspace(-6, 6, 1000, dtype=torch.float64)
    x[:9] = spline.x[:9].diagonal()  # knot k of spline k
    y, _ = splines.forward(spline, x)
    assert torch.allclose(splines.inverse(spline, y), x, atol=1e-9, rtol=0)
    assert torch.equal(y[x.abs() >= BOUND], x[x.abs() >= BOUND])


def test_the_slope_is_that_of_autograd() -> None:
    spline = random_spline(500)
    x = (9 * torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 4.5).requires_grad_()
    y, log_slope = splines.forward(spline, x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (slope > 0).all() and torch.allclose(log_slope, slope.log(), atol=1e-10)


def test_it_increases_and_is_continuous() -> None:
    spline = splines.Spline(*(part[:1].expand(100_000, -1) for part in random_spline(1)))
    y, log_slope = splines.forward(spline, torch.linspace(-5, 5, 100_000, dtype=torch.float64))
    assert (y.diff() > 0).all() and y.diff().max() < 1e-4 * 1.1 * log_slope.exp().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zeros_are_the_identity(dtype: torch.dtype) -> None:
    spline = splines.make_spline(torch.zeros(50, splines.parameter_count(BINS), dtype=dtype), BOUND)
    x = torch.linspace(-5, 5, 50, dtype=dtype)
    y, log_slope = splines.forward(spline, x)
    assert torch.allclose(y, x, atol=1e-5) and log_slope.abs().max() < 1e-5 and y.dtype == dtype


def test_every_parameter_has_a_gradient() -> None:
    parameters = torch.randn(64, splines.parameter_count(BINS), generator=torch.Generator().manual_seed(2))
    parameters.requires_grad_()
    y, log_slope = splines.forward(splines.make_spline(parameters, BOUND), torch.linspace(-3.9, 3.9, 64))
    (y.sum() + log_slope.sum()).backward()
    assert (parameters.grad.abs().sum(dim=0) > 0).all() and parameters.grad.isfinite().all()
