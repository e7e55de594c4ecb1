"""Effect maps and contact sheets with known answers."""

from pathlib import Path

import torch
from PIL import Image

from dscm.figures import BLUE, RED, Row, draw_sheet, effect_map


def test_effect_map_is_white_red_or_blue() -> None:
    reference = torch.zeros(1, 1, 1, 3)
    x = torch.tensor([[[[0.0, 1.0, -1.0]]]])
    same, brighter, darker = effect_map(x, reference)[0, :, 0].T.tolist()
    assert same == [255, 255, 255]
    for got, colour in ((brighter, RED), (darker, BLUE)):  # half of the range: half way from white
        assert all(abs(g - 255 * (1 + c) / 2) <= 1 for g, c in zip(got, colour, strict=True))


def test_sheet_shows_its_tiles_and_is_the_same_every_time(tmp_path: Path) -> None:
    images = torch.stack([torch.full((1, 28, 28), level, dtype=torch.uint8) for level in (0, 128, 255)])
    rows = [Row("observation", images), Row("effect", images.expand(3, 3, 28, 28), attached=True)]
    for name in ("a.png", "b.png"):
        draw_sheet(tmp_path / name, rows, "a title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    sheet = Image.open(tmp_path / "a.png")
    assert sheet.mode == "RGB" and sheet.getcolors(100_000)
    counts = {colour: n for n, colour in sheet.getcolors(100_000)}
    assert counts[(128, 128, 128)] >= 2 * 56 * 56 and counts[(0, 0, 0)] >= 2 * 56 * 56
