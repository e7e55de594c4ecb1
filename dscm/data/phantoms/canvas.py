"""Antialiased painting on batches of images; a shape is a signed distance to its outline, positive inside."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """Images that are painted in place, with the coordinates of their pixels.

    Args:
        image: floating, (B, C, H, W).
        x: horizontal coordinates of the pixel centres, (B, H, W) or (H, W).
        y: vertical coordinates of the pixel centres, (B, H, W) or (H, W); they grow downwards.
        pixel: the size of a pixel in the same units, (B, 1, 1), or one number for all images.
    """

    image: Tensor
    x: Tensor
    y: Tensor
    pixel: Tensor | float

    def fill(self, distance: Tensor, colour: Tensor, opacity: Tensor | float = 1.0, soft: float = 0.0) -> None:
        """Paint a shape; pixels outside it do not change by a bit.

        Args:
            distance: signed distance to the outline, positive inside, (B, H, W).
            colour: one colour for each image, (B, C, 1, 1), or for each pixel, (B, C, H, W).
            opacity: in [0, 1], (B, 1, 1), or one number for all images.
            soft: width of the edge beyond one pixel, in the units of the coordinates.
        """
        cover = (distance / (self.pixel + soft) + 0.5).clamp(0, 1) * opacity
        self.image.lerp_(colour, cover[:, None])


def pixel_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the coordinates of the pixel centres, in half heights from the image's centre.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        x and y, each (H, W); y is in (-1, 1) and grows downwards.
    """
    y, x = ((torch.arange(size) - (size - 1) / 2) * (2 / height) for size in (height, width))
    return x.expand(height, width), y[:, None].expand(height, width)


def mix(palette: Sequence[str], place: Tensor) -> Tensor:
    """Interpolate linearly between the colours of a palette.

    Args:
        palette: colours as six hexadecimal digits, equally spaced.
        place: position in the palette, in [0, 1], (N,).

    Returns:
        RGB in [0, 1], float32 (N, 3).
    """
    colours = torch.tensor([list(bytes.fromhex(colour)) for colour in palette]) / 255
    place = place.float() * (len(palette) - 1)
    left = place.long().clamp(max=len(palette) - 2)
    return torch.lerp(colours[left], colours[left + 1], (place - left)[:, None])


def ellipse(x: Tensor, y: Tensor, radius_x: Tensor | float, radius_y: Tensor | float) -> Tensor:
    """Return the distance to an ellipse around the origin, ``f / |∇f|`` with ``f = 1 - (x/a)² - (y/b)²``.

    It is exact to first order at the outline and too large far inside.

    Args:
        x: horizontal coordinates, (B, H, W).
        y: vertical coordinates, (B, H, W).
        radius_x: the horizontal half axis a, (B, 1, 1), or one number for all images.
        radius_y: the vertical half axis b, (B, 1, 1), or one number for all images.

    Returns:
        Signed distance, positive inside, (B, H, W).
    """
    p, q = x / radius_x, y / radius_y
    slope = ((p / radius_x).square() + (q / radius_y).square()).sqrt().clamp_min(1e-6)
    return (1 - p.square() - q.square()) / (2 * slope)


def box(
    x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float, corner: Tensor | float
) -> Tensor:
    """Return the distance to a rectangle around the origin with rounded corners.

    Args:
        x: horizontal coordinates, (B, H, W).
        y: vertical coordinates, (B, H, W).
        half_width: half the width, (B, 1, 1), or one number for all images.
        half_height: half the height, (B, 1, 1), or one number for all images.
        corner: radius of the corners, at most half the shorter side.

    Returns:
        Signed distance, positive inside, (B, H, W).
    """
    p, q = x.abs() - half_width + corner, y.abs() - half_height + corner
    outside = (p.clamp_min(0).square() + q.clamp_min(0).square()).sqrt()
    return corner - outside - torch.maximum(p, q).clamp_max(0)


def segment(
    x: Tensor, y: Tensor, start: tuple[Tensor | float, Tensor | float], end: tuple[Tensor | float, Tensor | float]
) -> Tensor:
    """Return minus the distance to a line segment; adding half a width gives a stroke.

    Args:
        x: horizontal coordinates, (B, H, W).
        y: vertical coordinates, (B, H, W).
        start: x and y of one end, each (B, 1, 1) or one number for all images.
        end: x and y of the other end, each (B, 1, 1) or one number for all images.

    Returns:
        Minus the distance, (B, H, W).
    """
    x, y = x - start[0], y - start[1]
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    share = ((x * along_x + y * along_y) / (along_x**2 + along_y**2)).clamp(0, 1)
    return -((x - share * along_x).square() + (y - share * along_y).square()).sqrt()


def band(y: Tensor, top: Tensor | float, bottom: Tensor | float) -> Tensor:
    """Return the distance to the band between two heights, which may vary along the columns.

    Args:
        y: vertical coordinates, (B, H, W); they grow downwards.
        top: the upper edge, broadcastable with ``y``.
        bottom: the lower edge, broadcastable with ``y``.

    Returns:
        Signed vertical distance, positive inside, (B, H, W).
    """
    return torch.minimum(y - top, bottom - y)
