"""Frames around tiles that need a second look: each reason has a colour, and dashes by which it is known in grey."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

from dscm.trust.checks import MISSED, MOVED, OFF, UNLIKE

WIDTH = 3  # pixels
SWATCH, SPACE = 22, 14  # pixels of a sample in the legend, and between its entries
Box = tuple[int, int, int, int]  # left, top, right, bottom; inclusive


class Style(NamedTuple):
    """How a frame is drawn: its colour, and the pixels of a dash and of a gap; a gap of 0 is a solid line."""

    colour: tuple[int, int, int]
    dash: int
    gap: int


STYLES = {  # of colours that the colour-blind tell apart (Okabe and Ito 2008)
    UNLIKE: Style((213, 94, 0), 1, 0),
    OFF: Style((230, 159, 0), 10, 5),
    MISSED: Style((0, 114, 178), 3, 3),
    MOVED: Style((204, 121, 167), 3, 9),
}


def draw_frame(draw: ImageDraw.ImageDraw, box: Box, mark: str) -> None:
    """Draw the frame of a mark on the edge of a tile, white where its dashes have gaps.

    Args:
        draw: the sheet.
        box: the tile.
        mark: a name in `STYLES`.
    """
    left, top, right, bottom = box
    style = STYLES[mark]
    draw.rectangle(box, outline="white", width=WIDTH)
    step = style.dash + style.gap
    for start in range(left, right + 1, step):
        end = min(start + style.dash - 1, right)
        for y in (top, bottom - WIDTH + 1):
            draw.rectangle((start, y, end, y + WIDTH - 1), fill=style.colour)
    for start in range(top, bottom + 1, step):
        end = min(start + style.dash - 1, bottom)
        for x in (left, right - WIDTH + 1):
            draw.rectangle((x, start, x + WIDTH - 1, end), fill=style.colour)


def measure_legend(marks: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    """Return the width of a legend in pixels."""
    return sum(SWATCH + 4 + font.getlength(mark) + SPACE for mark in marks)


def draw_legend(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    marks: Sequence[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw a sample of each frame with its name, in a line.

    Args:
        draw: the sheet.
        place: left and top.
        marks: names in `STYLES`.
        font: of the names.
    """
    left, top = place
    for mark in marks:
        draw_frame(draw, (left, top, left + SWATCH - 1, top + 13), mark)
        draw.text((left + SWATCH + 4, top), mark, fill="black", font=font)
        left += int(SWATCH + 4 + font.getlength(mark) + SPACE)
