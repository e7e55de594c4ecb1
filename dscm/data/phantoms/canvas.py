"""Antialiased shapes on batches of images: a shape is a signed distance to its outline, positive inside."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """Hold images that are painted in place, and where each of their pixels lies in the drawing.

    Args:
        image: floating, shape (B, C, H, W).
        x, y: coordinates of the pixels' centres in the drawing's units, shape (B, H, W) or (H, W).
        pixel: the size of a pixel in the same units, shape (B, 1, 1), or one number for all.
    """

    image: Tensor
    x: Tensor
    y: Tensor
    pixel: Tensor | float

    def fill(self, distance: Tensor, colour: Tensor, opacity: Tensor | float = 1.0, soft: float = 0.0) -> None:
        """Paint a shape over what is there; where it does not reach, the image keeps every bit.

        Args:
            distance: signed distance to the outline, positive inside, shape (B, H, W).
            colour: shape (B, C, 1, 1), or one for each pixel, (B, C, H, W).
            opacity: from 0 to 1, shape (B, 1, 1), or one number for all.
            soft: how far inside the outline the paint reaches its full opacity; an edge is never sharper than a pixel.
        """
        cover = (distance / (self.pixel + soft) + 0.5).clamp(0, 1) * opacity
        self.image.lerp_(colour, cover[:, None])


def pixel_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the x and the y of every pixel's centre, in half heights from the middle of the image.

    Args:
        height, width: of the image in pixels.

    Returns:
        Two tensors (H, W); y is in (-1, 1) and grows downwards.
    """
    y, x = ((torch.arange(size) - (size - 1) / 2) * (2 / height) for size in (height, width))
    return x.expand(height, width), y[:, None].expand(height, width)


def mix(palette: Sequence[str], place: Tensor) -> Tensor:
    """Return colours from the line through a palette.

    Args:
        palette: colours as six hexadecimal digits, at equal distances.
        place: where on the line, from 0 to 1, shape (N,).

    Returns:
        RGB in [0, 1], float32 (N, 3).
    """
    colours = torch.tensor([list(bytes.fromhex(colour)) for colour in palette]) / 255
    place = place.float() * (len(palette) - 1)
    left = place.long().clamp(max=len(palette) - 2)
    return torch.lerp(colours[left], colours[left + 1], (place - left)[:, None])


def ellipse(x: Tensor, y: Tensor, radius_x: Tensor | float, radius_y: Tensor | float) -> Tensor:
    """Return the distance to an ellipse about the origin, ``f / |∇f|`` with ``f = 1 - (x/a)² - (y/b)²``.

    It is exact to the first order at the outline, and too large deep inside.

    Args:
        x, y: coordinates, shape (B, H, W).
        radius_x, radius_y: the half axes, shape (B, 1, 1), or one number for all.
    """
    p, q = x / radius_x, y / radius_y
    slope = ((p / radius_x).square() + (q / radius_y).square()).sqrt().clamp_min(1e-6)
    return (1 - p.square() - q.square()) / (2 * slope)


def box(
    x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float, corner: Tensor | float
) -> Tensor:
    """Return the distance to a rectangle about the origin with rounded corners.

    Args:
        x, y: coordinates, shape (B, H, W).
        half_width, half_height: of the rectangle, shape (B, 1, 1), or one number for all.
        corner: radius of the corners, at most the smaller half.
    """
    p, q = x.abs() - half_width + corner, y.abs() - half_height + corner
    outside = (p.clamp_min(0).square() + q.clamp_min(0).square()).sqrt()
    return corner - outside - torch.maximum(p, q).clamp_max(0)


def segment(
    x: Tensor, y: Tensor, start: tuple[Tensor | float, Tensor | float], end: tuple[Tensor | float, Tensor | float]
) -> Tensor:
    """Return minus the distance to a straight line between two points; add half a width to make it a stroke.

    Args:
        x, y: coordinates, shape (B, H, W).
        start, end: the points, x and y, each of shape (B, 1, 1) or one number for all.
    """
    x, y = x - start[0], y - start[1]
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    share = ((x * along_x + y * along_y) / (along_x**2 + along_y**2)).clamp(0, 1)
    return -((x - share * along_x).square() + (y - share * along_y).square()).sqrt()


def band(y: Tensor, top: Tensor | float, bottom: Tensor | float) -> Tensor:
    """Return the distance to what lies between two heights, which may differ from column to column.

    Args:
        y: coordinates, shape (B, H, W); they grow downwards.
        top, bottom: the heights, of a shape that broadcasts with ``y``.
    """
    return torch.minimum(y - top, bottom - y)
