"""The parts of a drawn mammogram: tissue, then what may lie in it or on its skin.

Coordinates are in half heights of the image: x from the chest wall, at the image's left edge, y from its middle
downwards.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.data.phantoms.canvas import Canvas, ellipse

GLAND = (-1.2, -0.4, 0.3, 1.1)  # by density: how far gland spreads
GLAND_GAIN = (0.25, 0.3, 0.36, 0.42)  # by density: by how much it is brighter than fat
FAT = 0.24  # brightness of what isn't gland
PECTORAL = 0.62  # brightness of the muscle
STROKE = 0.022  # width of a marker's line
TURNS = tuple(k * 2 * math.pi / 3 for k in range(3))  # of the sides of a triangle


class Anatomy(NamedTuple):
    """Say all about a mammogram that no attribute says, but for its texture and noise; every tensor is (N,)."""

    depth: Tensor  # from the chest wall to the nipple
    half_height: Tensor
    droop: Tensor  # by how much the nipple hangs, for each unit of depth
    middle: Tensor  # y
    pectoral: Tensor  # x at which the muscle's edge leaves the top; no muscle where that is less than 0
    pectoral_slope: Tensor  # of that edge, x for each unit of y
    exposure: Tensor  # factor of the brightness
    mass_x: Tensor  # where a cancer lies, as a fraction of the depth
    mass_y: Tensor  # as a fraction of half the height
    mass_radius: Tensor
    mass_turn: Tensor  # rad
    mass_opacity: Tensor
    circle_x: Tensor  # where the markers lie, as the cancer's
    circle_y: Tensor
    circle_radius: Tensor
    circle_opacity: Tensor
    circle_filled: Tensor  # more than 0: a disk, not a ring
    triangle_x: Tensor
    triangle_y: Tensor
    triangle_radius: Tensor  # from its centre to a corner
    triangle_opacity: Tensor
    triangle_turn: Tensor  # rad
    marker_level: Tensor  # brightness
    mirrored: Tensor  # more than 0: the chest wall is at the right edge


class Texture(NamedTuple):
    """Hold random grids from coarse to fine, each twice as fine as the one before, (N, h, w)."""

    gland: Sequence[Tensor]
    strands: Sequence[Tensor]


def paint_breast(canvas: Canvas, anatomy: Anatomy, texture: Texture, attributes: Mapping[str, Tensor]) -> None:
    """Paint a breast on black, what grows in it and what was stuck on it.

    Args:
        canvas: of one channel.
        anatomy: tensors of shape (B, 1, 1).
        texture: of B images.
        attributes: int64 (B, 1, 1), by their names in EMBED's graph: 0 or 1, density from 0 to 3.
    """
    clouds, strands = (spread(grids, *canvas.x.shape[-2:]) for grids in texture)
    skin = outline(canvas, anatomy)
    tissue = _tissue(canvas, anatomy, clouds, attributes["density"])
    tissue = tissue + 0.08 * (1 - strands.abs() / 0.35).clamp_min(0)  # ligaments: where the clouds change sign
    thick = (skin / 0.25).clamp(0, 1)
    canvas.fill(skin, (tissue * (0.25 + 0.75 * thick * (2 - thick)))[:, None])
    muscle = anatomy.pectoral - canvas.x - (canvas.y + 1) * anatomy.pectoral_slope
    canvas.fill(muscle, (PECTORAL + 0.05 * clouds)[:, None], 0.85, soft=0.1)
    mass = mass_outline(canvas, anatomy)
    canvas.fill(mass, torch.full_like(mass, 0.95)[:, None], attributes["cancer"] * anatomy.mass_opacity, soft=0.06)
    for name, draw in MARKERS.items():
        marker = draw(canvas, anatomy)
        level = anatomy.marker_level[:, None]
        canvas.fill(marker, level, attributes[f"{name} marker"] * getattr(anatomy, f"{name}_opacity"))


def spread(grids: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Add up random grids, each weaker than the one before, as smooth clouds (N, height, width)."""
    clouds = grids[0][:, None]
    for k, grid in enumerate(grids[1:], 1):
        clouds = F.interpolate(clouds, grid.shape[1:], mode="bilinear") + grid[:, None] * 0.6**k
    return F.interpolate(clouds, (height, width), mode="bilinear")[:, 0]


def place(anatomy: Anatomy, part: str) -> tuple[Tensor, Tensor]:
    """Return x and y of the middle of the ``mass``, ``circle`` or ``triangle``, shaped as the anatomy's fields."""
    x = getattr(anatomy, f"{part}_x") * anatomy.depth
    return x, anatomy.middle + anatomy.droop * x + getattr(anatomy, f"{part}_y") * anatomy.half_height


def outline(canvas: Canvas, anatomy: Anatomy) -> Tensor:
    """Return the distance to the skin: half an ellipse that droops, and the nipple."""
    y = canvas.y - anatomy.middle - anatomy.droop * canvas.x
    breast = ellipse(canvas.x, y, anatomy.depth, anatomy.half_height)
    return torch.maximum(breast, ellipse(canvas.x - anatomy.depth, y, 0.04, 0.05))


def mass_outline(canvas: Canvas, anatomy: Anatomy) -> Tensor:
    """Return the distance to a mass with spicules, roughly."""
    x, y = place(anatomy, "mass")
    x, y = canvas.x - x, canvas.y - y
    angle = torch.atan2(y, x) + anatomy.mass_turn
    ragged = 1 + 0.15 * (3 * angle).sin() + 0.3 * (9 * angle).cos() * (2 * angle).sin()
    return anatomy.mass_radius * ragged - torch.hypot(x, y)


def _tissue(canvas: Canvas, anatomy: Anatomy, clouds: Tensor, density: Tensor) -> Tensor:
    """Return the brightness of fat and gland, of which there is more behind the nipple."""
    y = canvas.y - anatomy.middle - anatomy.droop * canvas.x
    central = 1 - (canvas.x / anatomy.depth - 0.45).square() / 0.2 - (y / anatomy.half_height).square() / 0.4
    gland = (central + 0.45 * clouds + clouds.new_tensor(GLAND)[density]).clamp(0, 1)
    return FAT + 0.03 * clouds + gland * (clouds.new_tensor(GLAND_GAIN)[density] + 0.06 * clouds)


def _circle(canvas: Canvas, anatomy: Anatomy) -> Tensor:
    """Return the distance to a ring, or a disk."""
    x, y = place(anatomy, "circle")
    disk = anatomy.circle_radius - torch.hypot(canvas.x - x, canvas.y - y)
    return STROKE / 2 + torch.where(anatomy.circle_filled > 0, disk, -disk.abs())


def _triangle(canvas: Canvas, anatomy: Anatomy) -> Tensor:
    """Return the distance to the outline of a triangle with equal sides."""
    x, y = place(anatomy, "triangle")
    x, y = canvas.x - x, canvas.y - y
    angles = [anatomy.triangle_turn + turn for turn in TURNS]
    sides = torch.stack([x * angle.cos() + y * angle.sin() for angle in angles])
    return STROKE / 2 - (sides.amax(dim=0) - anatomy.triangle_radius / 2).abs()


MARKERS = {"circle": _circle, "triangle": _triangle}


def marker_extent(anatomy: Anatomy, name: str, pixel: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the left, right, top and bottom of all that a marker's paint may touch.

    Args:
        anatomy: of N images.
        name: ``circle`` or ``triangle``.
        pixel: its size; paint reaches half of that beyond the outline.

    Returns:
        Coordinates, each shaped as the anatomy's fields.
    """
    x, y = place(anatomy, name)
    if name == "circle":
        reach = anatomy.circle_radius + STROKE / 2 + pixel / 2
        return x - reach, x + reach, y - reach, y + reach
    reach = anatomy.triangle_radius + STROKE + pixel  # half a stroke beyond two sides is a whole one at their corner
    angles = torch.stack([anatomy.triangle_turn + turn + math.pi for turn in TURNS])
    corners_x, corners_y = x + reach * angles.cos(), y + reach * angles.sin()
    return corners_x.amin(dim=0), corners_x.amax(dim=0), corners_y.amin(dim=0), corners_y.amax(dim=0)
