"""Contact sheets and effect maps, pixel by pixel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from dscm.diffusion.alignment import Alignment
from dscm.diffusion.guidance import Weights
from dscm.evaluation.configuration import Configuration
from dscm.evaluation.route import Route, describe
from dscm.plots.sheets import (
    BLUE,
    FONT_SIZE,
    GAP,
    PURPLE,
    RED,
    SPELT,
    WIDEST,
    Row,
    draw_sheet,
    effect_map,
    spread_map,
    to_picture,
)

TEXT = 12 + 2 * GAP  # height of the title's line


def flat(level: int, n: int = 1, channels: int = 1, size: int = 28) -> Tensor:
    """Make images of one grey level."""
    return torch.full((n, channels, size, size), level, dtype=torch.uint8)


def read(path: Path) -> np.ndarray:
    """Read a picture as (H, W, 3)."""
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        return np.asarray(picture)


# Effect maps


@pytest.mark.parametrize("level", [-1.0, 0.25, 1.0])
def test_no_change_is_white(level: float) -> None:
    """Whatever the image, and whatever its number of channels."""
    for channels in (1, 3):
        x = torch.full((2, channels, 3, 3), level)
        assert torch.equal(effect_map(x, x), torch.full((2, 3, 3, 3), 255, dtype=torch.uint8))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_colour_grows_with_the_change(share: float) -> None:
    """Brighter turns from white to red, darker to blue, in proportion to the change of [0, 1] values."""
    dark, bright = torch.full((1, 1, 1, 1), -1.0), torch.full((1, 1, 1, 1), -1.0 + 2 * share)
    for pair, colour in (((bright, dark), RED), ((dark, bright), BLUE)):
        expected = [round(255 * (1 + share * (part - 1))) for part in (colour if share else (1, 1, 1))]
        assert effect_map(*pair).flatten().tolist() == pytest.approx(expected, abs=1)


def test_map_averages_channels_and_ignores_what_is_out_of_range() -> None:
    """One of three channels counts a third; values beyond [-1, 1] count as its ends."""
    x, reference = torch.full((1, 3, 1, 1), -1.0), torch.full((1, 3, 1, 1), -1.0)
    x[0, 0] = 1.0
    third = effect_map(torch.full((1, 1, 1, 1), -1 + 2 / 3), torch.full((1, 1, 1, 1), -1.0))
    assert torch.equal(effect_map(x, reference), third)
    assert (effect_map(torch.full((1, 1, 1, 1), 9.0), torch.ones(1, 1, 1, 1)) == 255).all()


def test_map_has_one_place_for_each_pixel() -> None:
    """(B, 3, H, W), uint8, changed only where the images differ; inputs stay."""
    x = torch.zeros(2, 1, 4, 5)
    reference = x.clone()
    x[1, 0, 2, 3] = 1
    kept = x.clone()
    changed = (effect_map(x, reference) != 255).any(dim=1)
    assert changed.shape == (2, 4, 5) and changed.nonzero().tolist() == [[1, 2, 3]] and torch.equal(x, kept)


@pytest.mark.parametrize(("share", "strength"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 1.0)])
def test_spread_turns_purple(share: float, strength: float) -> None:
    """In proportion to the standard deviation, up to the widest; of three channels it is the mean."""
    expected = [round(255 * (1 + strength * (part - 1))) for part in PURPLE]
    assert spread_map(torch.full((1, 1, 1, 1), share * WIDEST)).flatten().tolist() == pytest.approx(expected, abs=1)
    coloured = share * WIDEST * torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1)
    assert torch.equal(spread_map(coloured), spread_map(torch.full((1, 1, 1, 1), share * WIDEST)))


# Sheets


def test_sheet_without_words_has_the_size_of_its_tiles(tmp_path: Path) -> None:
    """Two columns of 56 pixels with gaps of 6; a row of its own stands 6 lower, an attached one touches."""
    rows = [Row("", flat(0, 2)), Row("", flat(90, 2), attached=True), Row("", flat(200, 1))]
    draw_sheet(tmp_path / "sheet.png", rows)
    sheet = read(tmp_path / "sheet.png")
    assert sheet.shape == (6 + 6 + 56 + 56 + 6 + 56 + 6, 12 + 2 * 62, 3)
    expected = np.full_like(sheet, 255)
    for left in (12, 74):
        expected[12:68, left : left + 56] = 0
        expected[68:124, left : left + 56] = 90
    expected[130:186, 12:68] = 200
    assert (sheet == expected).all()


def test_title_makes_room_above_and_beside(tmp_path: Path) -> None:
    """A title adds its line, and widens a sheet that is narrower; tiles stay whole."""
    draw_sheet(tmp_path / "bare.png", [Row("", flat(0))])
    draw_sheet(tmp_path / "titled.png", [Row("", flat(0))], "a title that is longer than one tile is wide")
    bare, titled = read(tmp_path / "bare.png"), read(tmp_path / "titled.png")
    assert titled.shape[0] == bare.shape[0] + TEXT - GAP and titled.shape[1] > bare.shape[1]
    assert (titled[TEXT + GAP : TEXT + GAP + 56, 12:68] == 0).all()
    assert (titled[:TEXT] < 128).any(), "the title is drawn"
    assert (titled[:, -GAP:] == 255).all(), "and is not cut off"


def test_labels_stand_left_of_the_tiles(tmp_path: Path) -> None:
    """The margin is as wide as the longest label."""
    draw_sheet(tmp_path / "sheet.png", [Row("observation", flat(0)), Row("x", flat(0))])
    sheet = read(tmp_path / "sheet.png")
    margin = sheet.shape[1] - 62
    assert margin > 40 and (sheet[12:68, margin : margin + 56] == 0).all()
    assert (sheet[12:68, :margin] < 128).any() and (sheet[74:130, :margin] < 128).any()
    assert (sheet[12:68, margin - GAP // 2 : margin] == 255).all()


@pytest.mark.parametrize(("size", "side"), [(8, 56), (28, 56), (30, 60), (56, 56), (64, 64)])
def test_small_images_are_magnified_by_whole_factors(tmp_path: Path, size: int, side: int) -> None:
    """To 56 pixels or just above, without mixing neighbours; larger ones stay."""
    image = torch.randint(256, (1, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draw_sheet(tmp_path / "sheet.png", [Row("", image)])
    sheet, factor = read(tmp_path / "sheet.png"), side // size
    assert sheet.shape == (2 * GAP + side + GAP, 12 + side + GAP, 3)
    tile = image[0, 0].numpy().repeat(factor, axis=0).repeat(factor, axis=1)
    assert (sheet[12 : 12 + side, 12 : 12 + side] == tile[..., None]).all()


def test_colour_images_keep_channels_and_orientation(tmp_path: Path) -> None:
    """(3, H, W) becomes rows, columns, RGB; grey stays one channel."""
    image = torch.randint(256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert (np.asarray(to_picture(image)) == image.permute(1, 2, 0).numpy()).all()
    assert to_picture(image).mode == "RGB" and to_picture(image[:1]).mode == "L"
    assert (np.asarray(to_picture(image[:1])) == image[0].numpy()).all()


def test_sheet_is_the_same_every_time_and_replaces_the_old_one(tmp_path: Path) -> None:
    """Equal bytes, and no temporary files."""
    rows = [Row("observation", flat(10, 2)), Row("effect", flat(200, 2, channels=3), attached=True)]
    for name in ("a.png", "b.png", "a.png"):
        draw_sheet(tmp_path / name, rows, "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_the_words_of_a_report_can_be_drawn() -> None:
    """Pillow's own font has a glyph for each letter, once those that it lacks are spelt out."""
    route = Route(20, "edm", 0.01, "ddim", 2, (1.0, 1000.0))
    plain = Configuration("b", "semantic", guidance=Weights(1.5), p_null=0.1, beta=1, route=route)
    rows = [
        plain,
        replace(plain, p_null=0.2, abduction="dynamic", alignment=Alignment(0.1, 5, "adam")),
        replace(plain, sha256="d", beta=2, guidance=Weights.read("do=3,others=1"), route=replace(route, steps=10)),
    ]
    words = " ".join([*describe([route]), *(row.label(rows) for row in rows)])
    font = ImageFont.load_default(FONT_SIZE)
    missing = bytes(font.getmask("\u0378"))  # no letter at all
    assert {letter for letter in words.translate(SPELT) if bytes(font.getmask(letter)) == missing} == set()
    assert {letter for letter in words if bytes(font.getmask(letter)) == missing} == {*"σωηβ∅×"}  # the test can fail
