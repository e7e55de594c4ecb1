"""Frames of doubtful tiles, told apart by colour and, in grey, by their dashes."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from dscm.plots.frames import STYLES, WIDTH, draw_frame
from dscm.plots.sheets import Row, make_sheet
from dscm.trust.checks import MARKS


def test_every_mark_has_a_frame_of_its_own() -> None:
    """Also without colour: no two have the same dashes."""
    assert STYLES.keys() == {*MARKS}
    edges = []
    for mark in MARKS:
        tile = Image.new("RGB", (56, 56), "black")
        draw_frame(ImageDraw.Draw(tile), (0, 0, 55, 55), mark)
        pixels = np.asarray(tile)
        assert not pixels[WIDTH:-WIDTH, WIDTH:-WIDTH].any()
        edges.append((pixels[1] == 255).all(axis=1).tobytes())
    assert len(set(edges)) == len(MARKS)


def test_a_sheet_with_marks_has_a_legend_and_others_stay_as_they_are() -> None:
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    plain, unmarked, marked = (make_sheet([Row("x", images, marks=m)]) for m in ((), ("", ""), ("", MARKS[0])))
    assert plain.tobytes() == unmarked.tobytes()
    assert marked.height > plain.height and marked.width >= plain.width
