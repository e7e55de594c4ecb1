"""The parts of a synthetic mammogram: tissue, muscle, a cancer and skin markers.

Coordinates are in half heights of the image: x from the chest wall at the left edge, y downwards from the centre.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.data.phantoms.canvas import Canvas, ellipse
from dscm.data.phantoms.markers import Markers, paint_markers

GLAND = (-1.2, -0.4, 0.3, 1.1)  # extent of the gland, by density
GLAND_GAIN = (0.25, 0.3, 0.36, 0.42)  # brightness of gland above that of fat, by density
FAT = 0.24  # brightness of fat
PECTORAL = 0.62  # brightness of the muscle


class Anatomy(NamedTuple):
    """Everything in a mammogram besides its attributes, texture and noise; each field is (N,)."""

    depth: Tensor  # distance from the chest wall to the nipple
    half_height: Tensor
    droop: Tensor  # shift of the nipple downwards per unit of depth
    middle: Tensor  # y of the breast's centre
    pectoral: Tensor  # x of the muscle's edge at the top; below 0, no muscle is visible
    pectoral_slope: Tensor  # decrease of that x per unit of y
    exposure: Tensor  # factor of the brightness
    mass_x: Tensor  # position of a cancer as a fraction of the depth
    mass_y: Tensor  # position of a cancer as a fraction of half the height
    mass_radius: Tensor
    mass_turn: Tensor  # rotation in radians
    mass_opacity: Tensor
    circle_x: Tensor  # position of the circle, in the same fractions
    circle_y: Tensor
    circle_radius: Tensor
    circle_opacity: Tensor
    circle_filled: Tensor  # above 0, a disk instead of a ring
    triangle_x: Tensor  # position of the triangle, in the same fractions
    triangle_y: Tensor
    triangle_radius: Tensor  # distance from the centre to a corner
    triangle_opacity: Tensor
    triangle_turn: Tensor  # rotation in radians
    marker_level: Tensor  # brightness of the markers
    mirrored: Tensor  # above 0, the chest wall is at the right edge


class Texture(NamedTuple):
    """Random grids from coarse to fine, each (N, h, w) with twice the resolution of the previous one."""

    gland: Sequence[Tensor]
    strands: Sequence[Tensor]


def paint_breast(canvas: Canvas, anatomy: Anatomy, texture: Texture, attributes: Mapping[str, Tensor]) -> None:
    """Paint breasts on black, with their cancers and markers.

    Args:
        canvas: a canvas with one channel.
        anatomy: fields of shape (B, 1, 1).
        texture: the texture of B images.
        attributes: the attributes of EMBED's graph by name, int64 (B, 1, 1): 0 or 1, density 0 to 3.
    """
    clouds, strands = (spread(grids, *canvas.x.shape[-2:]) for grids in texture)
    skin = outline(canvas, anatomy)
    tissue = _tissue(canvas, anatomy, clouds, attributes["density"])
    tissue = tissue + 0.08 * (1 - strands.abs() / 0.35).clamp_min(0)  # ligaments, at sign changes of the clouds
    thick = (skin / 0.25).clamp(0, 1)
    canvas.fill(skin, (tissue * (0.25 + 0.75 * thick * (2 - thick)))[:, None])
    muscle = anatomy.pectoral - canvas.x - (canvas.y + 1) * anatomy.pectoral_slope
    canvas.fill(muscle, (PECTORAL + 0.05 * clouds)[:, None], 0.85, soft=0.1)
    mass = mass_outline(canvas, anatomy)
    canvas.fill(mass, torch.full_like(mass, 0.95)[:, None], attributes["cancer"] * anatomy.mass_opacity, soft=0.06)
    paint_markers(canvas, place_markers(anatomy), attributes)


def spread(grids: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Sum random grids with weights 0.6^k to smooth clouds, (N, height, width)."""
    clouds = grids[0][:, None]
    for k, grid in enumerate(grids[1:], 1):
        clouds = F.interpolate(clouds, grid.shape[1:], mode="bilinear") + grid[:, None] * 0.6**k
    return F.interpolate(clouds, (height, width), mode="bilinear")[:, 0]


def place(anatomy: Anatomy, part: str) -> tuple[Tensor, Tensor]:
    """Return x and y of the centre of the ``mass``, ``circle`` or ``triangle``, shaped as the anatomy's fields."""
    x = getattr(anatomy, f"{part}_x") * anatomy.depth
    return x, anatomy.middle + anatomy.droop * x + getattr(anatomy, f"{part}_y") * anatomy.half_height


def place_markers(anatomy: Anatomy) -> Markers:
    """Return the markers of breasts, their centres in the coordinates of the image."""
    fields = {name: getattr(anatomy, name) for name in Markers._fields}
    for part in ("circle", "triangle"):
        fields[f"{part}_x"], fields[f"{part}_y"] = place(anatomy, part)
    return Markers(**fields)


def outline(canvas: Canvas, anatomy: Anatomy) -> Tensor:
    """Return the distance to the skin: half a drooping ellipse and the nipple."""
    y = canvas.y - anatomy.middle - anatomy.droop * canvas.x
    breast = ellipse(canvas.x, y, anatomy.depth, anatomy.half_height)
    return torch.maximum(breast, ellipse(canvas.x - anatomy.depth, y, 0.04, 0.05))


def mass_outline(canvas: Canvas, anatomy: Anatomy) -> Tensor:
    """Return the approximate distance to a spiculated mass."""
    x, y = place(anatomy, "mass")
    x, y = canvas.x - x, canvas.y - y
    angle = torch.atan2(y, x) + anatomy.mass_turn
    ragged = 1 + 0.15 * (3 * angle).sin() + 0.3 * (9 * angle).cos() * (2 * angle).sin()
    return anatomy.mass_radius * ragged - torch.hypot(x, y)


def _tissue(canvas: Canvas, anatomy: Anatomy, clouds: Tensor, density: Tensor) -> Tensor:
    """Return the brightness of fat and gland; gland is concentrated behind the nipple."""
    y = canvas.y - anatomy.middle - anatomy.droop * canvas.x
    central = 1 - (canvas.x / anatomy.depth - 0.45).square() / 0.2 - (y / anatomy.half_height).square() / 0.4
    gland = (central + 0.45 * clouds + clouds.new_tensor(GLAND)[density]).clamp(0, 1)
    return FAT + 0.03 * clouds + gland * (clouds.new_tensor(GLAND_GAIN)[density] + 0.06 * clouds)
