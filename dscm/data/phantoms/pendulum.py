"""A pendulum, a light and the shadow that it casts, as in CausalVAE's data set; drawn and measured.

The published picture has 96×96 pixels and shows 20 by 22 units, with a margin: nothing in it but the four attributes
varies, so that another picture with other attributes is the true counterfactual, whatever the equations say of them.
Two things differ: the edges are those of `Canvas`, and a shadow that leaves the frame goes on in the margin, where it
can be measured. Colours, places, the thickness of lines and the light's cut upper half are as published.

Source: Yang et al. 2021, "CausalVAE: Disentangled representation learning via neural structural causal models", and
the generator that was released with it.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from dscm.causal.shadow import GROUND, LIGHT_HEIGHT, PIVOT, light_angle, light_place, shadow_length, shadow_position
from dscm.data.phantoms.canvas import Canvas, box, ellipse, segment
from dscm.data.phantoms.seeds import draw_uniform, make_generators

SIZE = 96  # height and width in pixels
BATCH = 64  # pictures drawn together
STEP = 0.9  # degrees, of the published grid: a hundredth of a right angle
RANGES = {"pendulum": (-40 * STEP, 43 * STEP), "light": (60 * STEP, 147 * STEP)}  # in degrees
NAMES = ("pendulum", "light", "shadow_length", "shadow_position")
RED, ORANGE, BLACK = (178, 34, 34), (255, 165, 0), (0, 0, 0)  # of the ball, the light, and the lines
LENGTH, BALL, SUN = 8.0, 1.5, 3.0  # of the rod, and the radii of the ball and of the light, in units
TOP = 21.0  # y above which the light is cut
LINE = 4.0  # thickness of the lines, in pixels of SIZE
PER_UNIT = (3.72, 3.36)  # pixels of SIZE in a unit, across and upright
ORIGIN = (12.0, 82.08)  # x and y of the unit's origin, in pixels of SIZE from the upper left corner
FAINT = 0.1  # fraction of a colour below which a pixel does not have it, and of its lack above which it has it all


def draw_attributes(seed: int, index: Tensor) -> dict[str, Tensor]:
    """Sample the attributes of pictures: both angles uniformly from the published ranges, the shadow by its equations.

    The published angles are all points of a grid with steps of 0.9 degrees, without a light at 90; these are any
    numbers between, so that no picture to test on is one to train on.

    Args:
        seed: seed of the data set.
        index: indices of the pictures, int64 (N,).

    Returns:
        Each attribute by name, in degrees and units, float32 (N,).
    """
    angles = draw_uniform(make_generators(seed, index, stream=0), RANGES)
    exact = [angles[name].double() for name in RANGES]
    shadow = {"shadow_length": shadow_length(*exact).float(), "shadow_position": shadow_position(*exact).float()}
    return {**angles, **shadow}


def render(attributes: Mapping[str, Tensor], size: int = SIZE) -> Tensor:
    """Draw pictures; the shadow has its own length and place, whatever casts it.

    Args:
        attributes: each of `NAMES`, (N,), in degrees and units.
        size: height and width in pixels.

    Returns:
        uint8 (N, 3, size, size).
    """
    columns = [attributes[name].double().split(BATCH) for name in NAMES]
    return torch.cat([_paint(*values, size=size) for values in zip(*columns)])


def measure(image: Tensor, names: Iterable[str] = NAMES) -> dict[str, Tensor]:
    """Measure the attributes of pictures by the places of their colours.

    The angle of the pendulum is that from the pivot to the centre of what is red in the middle of the picture; that of
    the light belongs to the centre of what is orange at the top; length and position are those of what is black at the
    bottom. Where there is no such colour, the angle is that of the middle, and the length is 0.

    Args:
        image: uint8 (N, 3, S, S), of any size S.
        names: those to measure.

    Returns:
        Each attribute by name, in degrees and units, float32 (N,).
    """
    size = image.shape[-1]
    x, y = (place.double().to(image.device) for place in _units(size))
    levels = image.double() / 255
    warmth = levels[:, 0] - levels[:, 1:].mean(dim=1)  # of white and black none
    found = {}
    if "pendulum" in names:
        right, up = _centre(warmth * ((y > 0.5) & (y < 14)), x, y, RED)
        found["pendulum"] = torch.rad2deg(torch.atan2(right - PIVOT[0], PIVOT[1] - up))
    if "light" in names:
        found["light"] = light_angle(_centre(warmth * (y >= 14), x, y, ORANGE)[0])
    if "shadow_length" in names or "shadow_position" in names:
        dark = ((1 - levels[:, 0]) * (y <= 0.5)).sum(dim=1) / (LINE * size / SIZE)  # of each column
        black = _contrast(dark)
        found["shadow_length"] = black.sum(dim=1) * (x[0, 1] - x[0, 0])
        found["shadow_position"] = (black * x[0]).sum(dim=1) / black.sum(dim=1).clamp_min(1e-9)
    return {name: found[name].float() for name in names}


def _paint(*attributes: Tensor, size: int) -> Tensor:
    """Draw some pictures, from each of `NAMES`, (B,) in float64."""
    pendulum, light, length, position = (value[:, None, None] for value in attributes)
    scale = size / SIZE
    wide, high = PER_UNIT[0] * scale, PER_UNIT[1] * scale
    x, y = (place.double().to(pendulum.device) for place in _units(size))
    x, y = x * wide, y * high  # in pixels, where lines are as thick in every direction
    angle = torch.deg2rad(pendulum)
    ball = (wide * (PIVOT[0] + LENGTH * angle.sin()), high * (PIVOT[1] - LENGTH * angle.cos()))
    sun = ellipse(x - wide * light_place(light), y - high * LIGHT_HEIGHT, wide * SUN, high * SUN)
    line = LINE * scale / 2
    canvas = Canvas(torch.ones(len(pendulum), 3, size, size, dtype=torch.float64, device=x.device), x, y, 1.0)
    for shape, colour in (
        (segment(x, y, (wide * PIVOT[0], high * PIVOT[1]), ball) + line, BLACK),
        (ellipse(x - ball[0], y - ball[1], wide * BALL, high * BALL), RED),
        (torch.minimum(sun, high * TOP - y), ORANGE),
        (box(x - wide * position, y - high * GROUND, wide * length / 2, torch.tensor(line), 0.0), BLACK),
    ):
        canvas.fill(shape, torch.tensor(colour, dtype=torch.float64, device=x.device).view(1, 3, 1, 1) / 255)
    return (canvas.image * 255).round().to(torch.uint8)


def _units(size: int) -> tuple[Tensor, Tensor]:
    """Return the coordinates of the pixel centres in units, each (size, size); y grows upwards."""
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * (SIZE / size)
    x, y = (centre - ORIGIN[0]) / PER_UNIT[0], (ORIGIN[1] - centre) / PER_UNIT[1]
    return x.expand(size, size), y[:, None].expand(size, size)


def _centre(warmth: Tensor, x: Tensor, y: Tensor, colour: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return x and y of the centre, each (N,), of what has a colour, from its warmth, (N, S, S)."""
    most = colour[0] / 255 - (colour[1] + colour[2]) / 510
    weight = _contrast(warmth / most) + 1e-9
    total = weight.sum(dim=(1, 2))
    return (weight * x).sum(dim=(1, 2)) / total, (weight * y).sum(dim=(1, 2)) / total


def _contrast(cover: Tensor) -> Tensor:
    """Stretch fractions so that faint ones count nothing and nearly whole ones as whole."""
    return ((cover - FAINT) / (1 - 2 * FAINT)).clamp(0, 1)
