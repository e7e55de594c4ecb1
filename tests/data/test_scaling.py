"""Images between bytes and [-1, 1]."""

import pytest
import torch

from dscm.data.scaling import edges, to_levels, to_signed, to_unit


def test_to_signed_and_to_unit_have_known_values() -> None:
    """0 and 255 are the ends of both ranges; values beyond are clamped, but only on the way out."""
    assert to_signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert to_unit(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 0.5, 1, 1]
    assert to_levels(torch.tensor([-3.0, -1.0, 1.0, 3.0])).tolist() == [0, 0, 255, 255]
    assert to_levels(torch.tensor([0.999])).item() == 255  # rounded, not cut off


def test_edges_are_counted_in_the_difference_alone() -> None:
    """A square of 2 × 2 pixels that brightens by half has two edges in each of two rows, and of two columns."""
    x = torch.linspace(-1, -0.5, 48, dtype=torch.float64).view(1, 3, 4, 4)
    y = x.clone()
    y[:, :, 1:3, 1:3] += 1
    assert edges(y, x).item() == pytest.approx((4 / 12 + 4 / 12) / 2) and edges(x + 1, x).item() == pytest.approx(0)
