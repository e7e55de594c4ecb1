"""Simple shapes, flat and grey, such as of clothes and tools: pictures that no model of this package was made for."""

import torch
from torch import Tensor

from dscm.data.phantoms.canvas import Canvas, box, ellipse, pixel_grid

CORNER = 0.05  # radius of the corners
KINDS = 4  # a plate, an ellipse, a shirt, and a frame with a bar


def draw_shapes(n: int, side: int, generator: torch.Generator) -> Tensor:
    """Draw shapes of every kind in turn, light on black.

    Args:
        n: number of images.
        side: of an image in pixels.
        generator: source of their places, sizes and greys.

    Returns:
        uint8 (n, 1, side, side).
    """
    centre_x, centre_y, width, height, grey = torch.rand(5, n, 1, 1, generator=generator)
    x, y = pixel_grid(side, side)
    x, y = x - 0.4 * (centre_x - 0.5), y - 0.4 * (centre_y - 0.5)  # (n, side, side)
    width, height = 0.25 + 0.3 * width, 0.3 + 0.3 * height  # halves
    canvas = Canvas(torch.zeros(n, 1, side, side), x, y, 2 / side)
    plate, sleeves = box(x, y, width, height, CORNER), box(x, y + 0.7 * height, width + 0.2, 0.3 * height, CORNER)
    hole, bar = box(x, y, width - 0.12, height - 0.12, CORNER), box(x, y, width, torch.full_like(height, 0.05), CORNER)
    shirt, frame = torch.maximum(plate, sleeves), torch.maximum(torch.minimum(plate, -hole), bar)
    distances = torch.stack([plate, ellipse(x, y, width, height), shirt, frame])
    kind = torch.arange(n) % KINDS
    canvas.fill(distances[kind, torch.arange(n)], (0.4 + 0.6 * grey)[:, None])
    return (255 * canvas.image).round().to(torch.uint8)
