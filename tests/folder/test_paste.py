"""What changed is blended into the original, in its depth, and nothing else is."""

import numpy as np
import pytest
import torch

from dscm.data.original import Original
from dscm.folder.paste import change_mask, paste, paste_into


def test_the_mask_covers_the_change_and_not_much_more() -> None:
    """It is 1 on a changed block, 0 a few pixels away, and blind to faint and to single-pixel changes."""
    reference = torch.zeros(2, 3, 32, 32)
    x = reference.clone()
    x[0, :, 10:16, 10:16] += 0.5
    x[1] += 0.02  # half of it on [0, 1]
    x[1, :, 5, 5] += 0.15
    mask = change_mask(x, reference)
    assert mask.shape == (2, 1, 32, 32)
    assert (mask[0, 0, 10:16, 10:16] == 1).all()
    assert mask[0].sum() < 14**2 and (mask[0, 0, :6] == 0).all() and (mask[0, 0, :, 20:] == 0).all()
    assert (mask[1] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_only_the_mask_lets_anything_through(dtype: type) -> None:
    """Weights 0, ½ and 1 give the original's own bits, the middle, and the answer at full depth."""
    full = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, full, (4, 6), dtype=dtype, endpoint=True)
    before = pixels.copy()
    mask = torch.zeros(1, 4, 6)
    mask[:, 1], mask[:, 2] = 0.5, 1.0
    blend = paste(pixels, torch.full((1, 4, 6), 0.25), mask)
    assert blend.dtype == dtype and blend.shape == (4, 6) and np.array_equal(pixels, before)
    assert np.array_equal(blend[[0, 3]], pixels[[0, 3]])
    assert np.array_equal(blend[1], np.rint((pixels[1] + 0.25 * full) / 2))
    assert (blend[2] == round(0.25 * full)).all()


def test_colour_meets_grey() -> None:
    """A grey answer changes every channel of a colour image alike; a colour answer makes a grey image coloured."""
    colour, grey = np.full((2, 2, 3), (10, 20, 30), np.uint8), np.full((2, 2), 40, np.uint8)
    one = torch.ones(1, 2, 2)
    assert (paste(colour, one, one / 2) == (132, 138, 142)).all()
    red = torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 2, 2)
    assert (paste(grey, red, one) == (255, 0, 0)).all()


def test_overshoot_is_clipped() -> None:
    """Bicubic resizing leaves [0, 1] a little; neither the weight nor the answer does."""
    pixels = np.full((1, 2), 100, np.uint8)
    assert paste(pixels, torch.tensor([[[1.2, -0.2]]]), torch.tensor([[[1.1, 1.1]]])).tolist() == [[255, 0]]
    assert paste(pixels, torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[-0.1, -0.1]]])).tolist() == [[100, 100]]


def test_transparency_stays_and_what_shows_through_changes() -> None:
    """Over black the image shows the blend, as far as its opacity lets it; where nothing shows it is the original."""
    pixels = np.full((1, 4, 3), 80, np.uint8)
    alpha = np.array([[0, 51, 128, 255]], np.uint8)
    original, one = Original(pixels, alpha, {}), torch.ones(1, 1, 4)
    blend = paste_into(original, torch.full((3, 1, 4), 0.25), one)
    shown = blend[..., 0] * (alpha / 255)
    assert np.abs(shown[0, 2:] - 0.25 * 255).max() <= 0.5 and shown[0, 1] == 51  # all that it can
    assert (blend[0, 0] == 80).all() and np.array_equal(paste_into(original, torch.rand(3, 1, 4), 0 * one), pixels)
    opaque = Original(pixels, None, {})
    assert np.array_equal(paste_into(opaque, torch.rand(3, 1, 4), 0 * one), pixels)
