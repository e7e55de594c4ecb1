"""Mammograms brought to a model's square, and what a model says of the square brought back to the mammogram."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dscm.data.framing import Framing
from dscm.data.images import UnreadableImage
from dscm.data.mammogram import place_back, prepare, read


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_is_rounded_to_the_nearest(tmp_path: Path, dtype: type) -> None:
    """A picture of the wanted size isn't resampled: its levels are those of the file, over full scale, times 255."""
    full = np.iinfo(dtype).max
    array = np.linspace(full, 0, 64 * 64).round().astype(dtype).reshape(64, 64).T
    array = np.sort(array, axis=1)[:, ::-1]  # the bright side already on the left
    Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / "a.png")
    expected = torch.from_numpy(array.astype(np.float64) / full * 255).round().to(torch.uint8)
    assert torch.equal(read(tmp_path / "a.png", 64)[0], expected)


@pytest.mark.parametrize("width", [1, 2, 9, 10])
def test_the_brighter_half_lies_left(width: int) -> None:
    """Either of a picture and its mirror image gives the same; sums count, not the brightest pixel."""
    pixels = np.random.default_rng(width).random((6, width))
    one, other = prepare(pixels, 12), prepare(pixels[:, ::-1], 12)
    assert torch.equal(one, other) and one[..., :6].sum() >= one[..., 6:].sum()


def test_the_sum_decides_not_the_peak() -> None:
    pixels = np.zeros((8, 8))
    pixels[:, 4:] = 0.5
    pixels[0, 0] = 1
    assert (prepare(pixels, 8)[0, 1:, :4] == 128).all()


@pytest.mark.parametrize(("height", "width"), [(12, 6), (6, 12)])
def test_aspect(height: int, width: int) -> None:
    """Stretched, it fills the square; kept, a half is black, on the right or at the bottom, wherever the breast lay."""
    pixels = np.full((height, width), 0.5)
    pixels[:, -1] = 1
    assert prepare(pixels, 12).min() > 100
    kept = prepare(pixels, 12, Framing("pad"))[0]
    assert (kept[:height, :width] > 100).all() and kept.sum() == kept[:height, :width].sum()
    assert (kept[:height, 0] == 255).all()
    assert prepare(pixels, 5, Framing("pad")).shape == (1, 5, 5)


def test_the_background_is_cleaned_before_the_sides_are_compared() -> None:
    """A bright label opposite a dim breast goes, and no longer decides which side is which; noise goes as well."""
    pixels = np.full((16, 16), 0.01)
    pixels[2:14, :6] = 0.2
    pixels[4:7, 10:15] = 1
    whole, cleaned = prepare(pixels, 16)[0], prepare(pixels, 16, Framing(clean_background=True))[0]
    assert whole[5, 3] == 255 and (whole[2:14, 10:] >= 51).all()
    assert (cleaned[2:14, :6] == 51).all() and cleaned.sum() == 12 * 6 * 51
    assert prepare(np.full((4, 4), 0.01), 4, Framing(clean_background=True)).max() <= 3


def test_resizing_is_antialiased_and_never_leaves_the_range() -> None:
    noise = np.random.default_rng(0).random((640, 480))
    assert (prepare(noise, 8).int() - 127.5).abs().max() < 10
    step = np.repeat([[1.0, 1, 1, 0, 0, 0]], 6, axis=0)
    large = prepare(step, 50)[0]
    assert (large[:, :20] >= 250).all() and (large[:, 30:] <= 5).all()
    assert torch.equal(large, large[:1].expand_as(large))


@pytest.mark.parametrize("framing", [Framing(), Framing("pad"), Framing(clean_background=True)])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shape", [(24, 16), (16, 24)])
def test_what_is_placed_back_lies_where_it_was(framing: Framing, mirrored: bool, shape: tuple[int, int]) -> None:
    """A spot on the breast comes back to its own pixels, whichever way the picture was framed."""
    pixels = np.zeros(shape)
    pixels[:, : shape[1] // 2 + 1] = 0.4
    pixels[4:8, 2:6] = 1.0
    pixels = pixels[:, ::-1] if mirrored else pixels
    square = prepare(pixels, 48, framing).float() / 255
    back = place_back(square, pixels, framing)[0]
    assert back.shape == shape
    inner = back.flip(-1)[5:7, 3:5] if mirrored else back[5:7, 3:5]
    assert inner.min() > 0.95
    assert (back - torch.from_numpy(pixels.copy())).abs().mean() < 0.05


def test_a_crop_keeps_the_chest_wall_and_the_middle() -> None:
    """Of a tall mammogram top and bottom go, of a wide one the side away from the breast; neither comes back."""
    tall, framing = np.zeros((24, 12)), Framing("crop")
    tall[:, :6], tall[6:18, :6] = 0.2, 0.6
    square = prepare(tall, 12, framing)[0]
    assert (square[:, :6] == 153).all() and square[:, 6:].max() == 0
    back = place_back(square[None].float() / 255, tall[:, ::-1], framing)[0]
    assert torch.equal(back[6:18] > 0.3, torch.from_numpy(tall[6:18, ::-1].copy()) > 0.3)
    assert not back[:6].any() and not back[18:].any()
    wide = np.zeros((12, 24))
    wide[:, :12] = np.linspace(1, 0.5, 12)
    assert torch.equal(prepare(wide, 12, framing), prepare(wide[:, :12], 12)) and prepare(wide, 12, framing).min() > 120


def test_colour_is_read_as_grey_and_what_is_no_image_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (30, 60, 90)).save(tmp_path / "colour.png")
    assert (read(tmp_path / "colour.png", 4) == 60).all()
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UnreadableImage, match="^[^\n]+$"):
        read(tmp_path / "text.png", 8)
