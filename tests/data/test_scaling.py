"""Images between bytes and [-1, 1]."""

import torch

from dscm.data.scaling import to_levels, to_signed, to_unit


def test_to_signed_and_to_unit_have_known_values() -> None:
    """0 and 255 are the ends of both ranges; values beyond are clamped, but only on the way out."""
    assert to_signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert to_unit(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 0.5, 1, 1]
    assert to_levels(torch.tensor([-3.0, -1.0, 1.0, 3.0])).tolist() == [0, 0, 255, 255]
    assert to_levels(torch.tensor([0.999])).item() == 255  # rounded, not cut off
