"""Contact sheets, effect maps and the panels of an evaluation, drawn with Pillow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dscm.data.scaling import to_signed, to_unit
from dscm.files import atomic_path
from dscm.plots.frames import draw_frame, draw_legend, measure_legend

TILE = 56  # least side of a tile in pixels: small images are magnified by whole factors
GAP = 6
FONT_SIZE = 12
SPELT = str.maketrans(
    {"ω": "guidance", "σ": "sigma", "η": "eta", "∅": "_null", "β": "beta", "×": " x "}
)  # letters that Pillow's own font lacks
BLUE, WHITE, RED = (0.13, 0.40, 0.67), (1.0, 1.0, 1.0), (0.70, 0.09, 0.17)  # told apart by the colour-blind
PURPLE = (0.33, 0.15, 0.53)
WIDEST = 0.25  # spread on [0, 1] that has the full colour; a pixel that is black or white by chance has 0.5


@dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Args:
        label: on its left.
        images: uint8 (N, 1 or 3, H, W).
        attached: whether it touches the row above.
        marks: of each image, the name of its frame, as `frames` draws it; empty for none.
    """

    label: str
    images: Tensor
    attached: bool = False
    marks: Sequence[str] = ()


def effect_map(x: Tensor, reference: Tensor) -> Tensor:
    """Colour the effect of an intervention: red where ``x`` is brighter than the reference, blue where darker.

    The strength is the mean absolute change of the channels, so a change of hue alone is visible too; where the
    brightness stays the same it is red.

    Args:
        x, reference: images in [-1, 1], shape (B, C, H, W).

    Returns:
        uint8, shape (B, 3, H, W), white where nothing changed.
    """
    change = (to_unit(x) - to_unit(reference)).clamp(-1, 1)  # (B, C, H, W)
    white, red, blue = (torch.tensor(colour, device=x.device)[:, None, None] for colour in (WHITE, RED, BLUE))
    strength = change.abs().mean(dim=1, keepdim=True)
    colour = torch.where(change.mean(dim=1, keepdim=True) >= 0, red, blue)
    return ((white + (colour - white) * strength) * 255).round().to(torch.uint8)


def spread_map(std: Tensor) -> Tensor:
    """Colour the spread of counterfactuals: from white, none, to purple, a standard deviation of `WIDEST` or more.

    Args:
        std: the standard deviation of each pixel on [0, 1], shape (B, C, H, W); channels are averaged.

    Returns:
        uint8, shape (B, 3, H, W).
    """
    white, purple = (torch.tensor(colour, device=std.device)[:, None, None] for colour in (WHITE, PURPLE))
    strength = (std.mean(dim=1, keepdim=True) / WIDEST).clamp(0, 1)
    return ((white + (purple - white) * strength) * 255).round().to(torch.uint8)


def make_sheet(rows: Sequence[Row], title: str = "") -> Image.Image:
    """Draw rows of images, one column for each example, with labels on the left.

    Args:
        rows: from top to bottom.
        title: a line above everything.
    """
    font = ImageFont.load_default(FONT_SIZE)
    title = title.translate(SPELT)
    rows = [replace(row, label=row.label.translate(SPELT)) for row in rows]
    marks = list(dict.fromkeys(mark for row in rows for mark in row.marks if mark))
    side = _magnify(rows[0].images[0]).width
    margin = 2 * GAP + int(max(font.getlength(row.label) for row in rows))
    columns = max(len(row.images) for row in rows)
    legend = measure_legend(marks, font)
    width = max(margin + columns * (side + GAP), int(font.getlength(title)) + 2 * GAP, int(legend) + 2 * GAP)
    tops, y = [], 2 * GAP + FONT_SIZE if title else GAP
    for row in rows:
        y += 0 if row.attached else GAP
        tops.append(y)
        y += side
    foot = FONT_SIZE + 2 * GAP if marks else 0
    sheet = Image.new("RGB", (width, y + GAP + foot), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP // 2), title, fill="black", font=font)
    for row, top in zip(rows, tops):
        draw.text((GAP, top + (side - FONT_SIZE) // 2), row.label, fill="black", font=font)
        for column, image in enumerate(row.images):
            sheet.paste(_magnify(image), (margin + column * (side + GAP), top))
        for column, mark in enumerate(row.marks):
            if mark:
                left = margin + column * (side + GAP)
                draw_frame(draw, (left, top, left + side - 1, top + side - 1), mark)
    draw_legend(draw, (GAP, y + GAP), marks, font)
    return sheet


def draw_sheet(path: Path, rows: Sequence[Row], title: str = "") -> None:
    """Write `make_sheet` as a PNG file, atomically."""
    sheet = make_sheet(rows, title)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def draw_panel(path: Path, images: Mapping[str, Tensor], interventions: Sequence[str], title: str) -> None:
    """Draw the soundness panel and the counterfactual grid of one model (paper, Fig. 2b and 2c).

    Args:
        path: the file.
        images: uint8 (N, C, H, W), by label: ``observation``, ``composition``, and for each intervention ``do(NAME)``
            and ``do(NAME) reversed``.
        interventions: their names.
        title: a line above everything.
    """
    rows = [Row("observation", images["observation"]), Row("composition", images["composition"])]
    for name in interventions:
        rows.append(Row(f"do({name})", images[f"do({name})"]))
        rows.append(Row("effect", _effect(images, name), attached=True))
        rows.append(Row("reversed", images[f"do({name}) reversed"], attached=True))
    draw_sheet(path, rows, f"{title}. Effects: red is brighter than the composition, blue darker.")


def draw_comparison(path: Path, models: Sequence[tuple[str, Mapping[str, Tensor]]], intervention: str) -> None:
    """Draw one counterfactual of several models below each other (paper, Fig. 3c).

    Args:
        path: the file.
        models: from top to bottom, the name of each and its images as in `draw_panel`.
        intervention: its name.
    """
    rows = [Row("observation", models[0][1]["observation"])]
    for label, images in models:
        rows.append(Row(label, images[f"do({intervention})"]))
        rows.append(Row("effect", _effect(images, intervention), attached=True))
    draw_sheet(path, rows, f"do({intervention}): the same images and values in every row")


def to_picture(image: Tensor) -> Image.Image:
    """Convert uint8 (1 or 3, H, W) to a Pillow image of mode L or RGB."""
    array = image.cpu().numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def _effect(images: Mapping[str, Tensor], intervention: str) -> Tensor:
    """Colour the effect of an intervention on the composition."""
    return effect_map(to_signed(images[f"do({intervention})"]), to_signed(images["composition"]))


def _magnify(image: Tensor) -> Image.Image:
    """Magnify a tile by the least whole factor that makes it `TILE` pixels wide."""
    picture = to_picture(image)
    factor = max(1, -(-TILE // picture.width))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).convert("RGB")
