"""Scores of trained parts."""

import math

import torch

from dscm.training.probe import r_squared


def test_r_squared_by_hand() -> None:
    """The share of the variance that is explained; that of a constant is undefined."""
    assert r_squared(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])) == 0.5
    assert math.isnan(r_squared(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0])))
