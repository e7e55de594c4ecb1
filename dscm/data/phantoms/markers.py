"""Skin markers on mammograms, a ring or disk and the outline of a triangle.

Coordinates are in half heights of the image: x from the chest wall, y downwards from the centre.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dscm.data.phantoms.canvas import Canvas

STROKE = 0.022  # line width
TURNS = tuple(k * 2 * math.pi / 3 for k in range(3))  # angles of the sides of a triangle
RANGES = {  # ranges of the numbers that place and shape the markers, uniform
    "swap": (-1.0, 1.0),  # below 0, the triangle is above the circle
    "circle_x": (0.18, 0.65),  # as a fraction of the breast's depth, y as one of half its height
    "circle_y": (-0.55, -0.12),
    "circle_radius": (0.035, 0.062),
    "circle_opacity": (0.7, 1.0),
    "circle_filled": (-1.0, 0.5),
    "triangle_x": (0.18, 0.65),
    "triangle_y": (0.12, 0.55),
    "triangle_radius": (0.045, 0.075),
    "triangle_opacity": (0.7, 1.0),
    "triangle_turn": (0.0, 6.28),
    "marker_level": (0.88, 1.0),
}


class Markers(NamedTuple):
    """A circle and a triangle; each field is (N,), or shaped to broadcast with images."""

    circle_x: Tensor  # its centre
    circle_y: Tensor
    circle_radius: Tensor
    circle_opacity: Tensor
    circle_filled: Tensor  # above 0, a disk instead of a ring
    triangle_x: Tensor
    triangle_y: Tensor
    triangle_radius: Tensor  # distance from the centre to a corner
    triangle_opacity: Tensor
    triangle_turn: Tensor  # rotation in radians
    marker_level: Tensor  # brightness of both


def swap_markers(numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the triangle above the circle where ``swap`` says so, which the result lacks.

    Args:
        numbers: drawn from `RANGES`, each (N,).
    """
    side = torch.where(numbers["swap"] < 0, -1.0, 1.0)
    swapped = {name: side * numbers[name] for name in ("circle_y", "triangle_y")}
    return {name: value for name, value in numbers.items() if name != "swap"} | swapped


def paint_markers(canvas: Canvas, markers: Markers, attributes: Mapping[str, Tensor]) -> None:
    """Paint markers; pixels outside them do not change by a bit.

    Args:
        canvas: a canvas with one channel.
        markers: fields of shape (B, 1, 1).
        attributes: ``circle marker`` and ``triangle marker``, 0 or 1, (B, 1, 1).
    """
    for name, draw in {"circle": _circle, "triangle": _triangle}.items():
        marker, level = draw(canvas, markers), markers.marker_level[:, None]
        canvas.fill(marker, level, attributes[f"{name} marker"] * getattr(markers, f"{name}_opacity"))


def marker_extent(markers: Markers, name: str, pixel: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the bounding box of all pixels that a marker can change.

    Args:
        markers: the markers of N images.
        name: ``circle`` or ``triangle``.
        pixel: the size of a pixel; paint reaches half a pixel beyond the outline.

    Returns:
        Left, right, top and bottom, each shaped as the fields.
    """
    x, y = getattr(markers, f"{name}_x"), getattr(markers, f"{name}_y")
    if name == "circle":
        reach = markers.circle_radius + STROKE / 2 + pixel / 2
        return x - reach, x + reach, y - reach, y + reach
    reach = markers.triangle_radius + STROKE + pixel  # half a stroke beyond two sides is a full one at their corner
    angles = torch.stack([markers.triangle_turn + turn + math.pi for turn in TURNS])
    corners_x, corners_y = x + reach * angles.cos(), y + reach * angles.sin()
    return corners_x.amin(dim=0), corners_x.amax(dim=0), corners_y.amin(dim=0), corners_y.amax(dim=0)


def marker_box(markers: Markers, name: str, height: int, width: int, mirrored: Tensor) -> Tensor:
    """Return the bounding box of a marker in images of one size, whether or not it is present.

    Args:
        markers: the markers of N images.
        name: ``circle marker`` or ``triangle marker``.
        height, width: the size of the images in pixels.
        mirrored: whether the chest wall is at the right edge instead of the left one, bool (N,).

    Returns:
        int64 (N, 4): the first row and column, then the row and column after the last.
    """
    pixel = 2 / height
    left, right, top, bottom = (edge / pixel for edge in marker_extent(markers, name.removesuffix(" marker"), pixel))
    left, right = torch.where(mirrored, width - right, left), torch.where(mirrored, width - left, right)
    top, bottom = top + height / 2, bottom + height / 2
    box = torch.stack([top.floor(), left.floor(), bottom.ceil(), right.ceil()], dim=1).long()
    return box.clamp_min(0).minimum(torch.tensor([height, width, height, width]))


def _circle(canvas: Canvas, markers: Markers) -> Tensor:
    """Return the distance to a ring or disk."""
    disk = markers.circle_radius - torch.hypot(canvas.x - markers.circle_x, canvas.y - markers.circle_y)
    return STROKE / 2 + torch.where(markers.circle_filled > 0, disk, -disk.abs())


def _triangle(canvas: Canvas, markers: Markers) -> Tensor:
    """Return the distance to the outline of an equilateral triangle."""
    x, y = canvas.x - markers.triangle_x, canvas.y - markers.triangle_y
    angles = [markers.triangle_turn + turn for turn in TURNS]
    sides = torch.stack([x * angle.cos() + y * angle.sin() for angle in angles])
    return STROKE / 2 - (sides.amax(dim=0) - markers.triangle_radius / 2).abs()
