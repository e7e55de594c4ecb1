"""Kernels are distributions: over numbers, the circle and classes."""

import math

import pytest
import torch

from dscm.causal.kernels import LEAKS, WIDTHS, candidates, log_kernel
from dscm.causal.variables import Variable

NUMBER = Variable("x", "continuous", (), -math.inf, math.inf)
ANGLE = Variable("hue", "circular", (), 0, 1)
CLASS = Variable("digit", "categorical", (), 0, 3)
FLAG = Variable("hat", "binary", (), 0, 1)


@pytest.mark.parametrize("h", [0.05, 0.3, 1.0])
def test_densities_integrate_to_one(h: float) -> None:
    """A number's over the line, a circular one's over the circle in radians, wherever its centre is."""
    line = torch.linspace(-12, 12, 24001, dtype=torch.float64)
    assert torch.trapezoid(log_kernel(NUMBER, line, torch.tensor([0.7]), h)[:, 0].exp(), line).item() == pytest.approx(
        1
    )
    turns = torch.linspace(0, 1, 4001, dtype=torch.float64)
    density = log_kernel(ANGLE, turns, torch.tensor([0.98]), h)[:, 0].exp()
    assert torch.trapezoid(density, 2 * math.pi * turns).item() == pytest.approx(1)


@pytest.mark.parametrize("variable", [CLASS, FLAG])
def test_probabilities_add_up_to_one(variable: Variable) -> None:
    classes = torch.arange(variable.classes or 2).double()
    table = log_kernel(variable, classes, classes, 0.3).exp()
    assert torch.allclose(table.sum(dim=0), torch.ones(len(classes), dtype=torch.float64))
    assert table.diagonal().tolist() == pytest.approx([0.7] * len(classes))


def test_a_circle_has_no_end() -> None:
    """And a narrow kernel is finite everywhere."""
    x = torch.tensor([0.01, 0.99], dtype=torch.float64)
    near, far = log_kernel(ANGLE, x, torch.tensor([0.0, 0.5]), 0.1), log_kernel(ANGLE, x, x + 0.5, min(WIDTHS))
    assert torch.allclose(near[0], near[1]) and (near[:, 0] > near[:, 1]).all() and far.isfinite().all()


def test_bandwidths_to_choose_from() -> None:
    """No class is less likely around itself than another one."""
    assert candidates(NUMBER) == candidates(ANGLE) == WIDTHS and candidates(CLASS) == LEAKS
    assert max(LEAKS) < 0.5 and min(LEAKS) > 0
