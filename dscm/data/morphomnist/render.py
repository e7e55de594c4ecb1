"""Draw a digit with a given thickness, slant and intensity, so that measuring it returns what was asked.

The drawing is kept as a level-set function on the four times finer grid of the morphometry. One radius
thickens or thins it, one shear slants it, one gain sets its grey level; the three are corrected until the
*measured* attributes of the finished 8-bit image are the targets. The result is a deterministic function of
the drawing and the attributes, so the true counterfactual of any digit can be drawn.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dscm.data.morphomnist.measure import (
    SCALE,
    binarise,
    downscale,
    measure,
    medial_axis,
    median_of_stroke,
    squared_distance,
    upscale,
)

TOLERANCE = {"thickness": 0.04, "slant": 0.003, "intensity": 0.6}  # px, rad, grey levels: where to stop
SLOPE = SCALE / 2 * 1.1  # fine pixels of radius for one pixel of measured thickness, on average
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples modulo 1 fill an interval evenly
DITHER = 0.15  # fine pixels around the estimated radius that are searched
DIRECT = 3  # corrections that are taken whole, before the search
PEN = 0.6  # part of the mean half-width that a stroke keeps where plain erosion would break it
FINEST_PEN = 1.5  # fine pixels of half-width that every stroke keeps, lest a thin digit fall to dots
REACH = 32  # fine pixels around the outline, and the axis, in which the level set is exact
BLOCK = 64  # digits traced and drawn in one go: what fits the cache of a CPU
CHUNK = 512  # digits solved for together


def render(
    base: Tensor,
    thickness: Tensor | None = None,
    slant: Tensor | None = None,
    intensity: Tensor | None = None,
    iterations: int = 20,
) -> Tensor:
    """Redraw each digit so that its measured attributes are the targets.

    Thickness is met within 0.05 px where the drawing allows it: a stroke much thinner than a pixel cannot be
    drawn, and a blob as thick as the frame has no medial axis. What cannot be met is met as closely as found.

    Args:
        base: the drawings, uint8, bright on dark, shape (B, 1, H, W).
        thickness: targets in pixels, shape (B,); None keeps what the drawing has.
        slant: targets in radians, positive leaning right, shape (B,); None keeps what the drawing has.
        intensity: targets in grey levels (0, 255], shape (B,); None keeps what the drawing has.
        iterations: at most so many corrections; digits that have arrived are left alone.

    Returns:
        uint8, shape (B, 1, H, W).
    """
    wanted = {"thickness": thickness, "slant": slant, "intensity": intensity}
    targets = measure(base, tuple(name for name, target in wanted.items() if target is None))
    targets |= {name: target.to(base.device, torch.float32) for name, target in wanted.items() if target is not None}
    result = torch.empty_like(base)
    for start in range(0, len(base), CHUNK):
        part = slice(start, start + CHUNK)
        result[part] = _render_chunk(base[part], {name: target[part] for name, target in targets.items()}, iterations)
    return result


@dataclass
class Drawing:
    """Level-set functions of a batch of digits on the fine grid, in fine pixels, positive inside the stroke."""

    shape: Tensor  # (B, 4H, 4W): signed distance to the outline
    axis: Tensor  # (B, 4H, 4W): minus the distance to the medial axis
    half_width: Tensor  # (B,): mean distance from the medial axis to the outline
    centre: Tensor  # (B,): row of the centroid, about which the digit is sheared

    @classmethod
    def trace(cls, base: Tensor) -> "Drawing":
        """Trace the outline and the medial axis of ``base``, shape (B, H, W)."""
        fine = upscale(base)
        ink = binarise(fine)
        inside, outside = squared_distance(ink), squared_distance(~ink, REACH).sqrt()
        axis = medial_axis(ink, inside)
        inside = inside.sqrt()
        half_width = (inside * axis).sum(dim=(1, 2)) / axis.sum(dim=(1, 2)).clamp_min(1)
        # Whiskers into corners are left out of the pen's path; they would grow into spikes.
        path = axis & (inside > PEN * half_width[:, None, None])
        rows = torch.arange(fine.shape[1], device=base.device, dtype=torch.float32)
        centre = (fine.sum(dim=2) @ rows) / fine.sum(dim=(1, 2)).clamp_min(1)
        return cls(inside - outside - ink.float() + 0.5, -squared_distance(~path, REACH).sqrt(), half_width, centre)

    def draw(self, radius: Tensor, shear: Tensor) -> Tensor:
        """Grow every stroke by ``radius`` fine pixels, shear it, and reduce to coverage in [0, 1], (B, H, W).

        The stroke is the outline's level set, joined by a pen of `PEN` times the wanted half-width, at least
        `FINEST_PEN`, along the axis, so that thinning seldom breaks it.
        """
        pen = (PEN * (self.half_width + radius)).clamp_min(FINEST_PEN)
        level = torch.maximum(self.shape + radius[:, None, None], self.axis + pen[:, None, None])
        return downscale((_shear_rows(level, shear, self.centre) + 0.5).clamp(0, 1)).clamp_min(0)

    @classmethod
    def join(cls, parts: "list[Drawing]") -> "Drawing":
        """Put the digits of several drawings into one."""
        return cls(*(torch.cat(field) for field in zip(*(vars(part).values() for part in parts))))

    def subset(self, index: Tensor) -> "Drawing":
        """Take the digits at ``index``."""
        return Drawing(self.shape[index], self.axis[index], self.half_width[index], self.centre[index])


def _render_chunk(base: Tensor, targets: dict[str, Tensor], iterations: int) -> Tensor:
    """Solve for radius, shear and gain of each digit in ``base``, shape (B, 1, H, W)."""
    drawing = Drawing.join([Drawing.trace(part) for part in base[:, 0].split(BLOCK)])
    b, device = len(base), base.device
    shear = measure(base, ("slant",))["slant"].tan() - targets["slant"].tan()
    best, best_miss = base.clone(), torch.full((b,), math.inf, device=device)
    active = torch.arange(b, device=device)
    radius = SLOPE * (targets["thickness"] - 2 / SCALE * drawing.half_width)
    probe, gain = radius.clone(), targets["intensity"].clone()
    for k in range(iterations):
        target = {name: value[active] for name, value in targets.items()}
        coverage = torch.cat([drawing.subset(i).draw(probe[i], shear[i]) for i in active.split(BLOCK)])
        exposed, gain[active] = _expose(coverage, target["intensity"], gain[active])
        image = exposed.round().to(torch.uint8)[:, None]
        got = measure(image, tuple(TOLERANCE))
        miss = torch.stack([(got[name] - target[name]).abs() / TOLERANCE[name] for name in TOLERANCE]).amax(dim=0)
        better = miss < best_miss[active]
        best[active[better]], best_miss[active[better]] = image[better], miss[better]

        shear[active] += got["slant"].tan() - target["slant"].tan()
        # Spurs of the medial axis come and go as a stroke grows, so measured thickness is a noisy function of
        # the radius: average the estimates of its root, and look at different places around it.
        estimate = probe[active] + SLOPE * (target["thickness"] - got["thickness"])
        radius[active] += (estimate - radius[active]) / min(max(k + 1 - DIRECT, 1), 3)
        radius = torch.maximum(radius, -drawing.half_width)
        probe[active] = radius[active] + (DITHER * (2 * (k * GOLDEN % 1) - 1) if k >= DIRECT else 0)
        active = active[miss > 1]
        if not len(active):
            break
    return best


def _expose(coverage: Tensor, target: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Scale coverage (B, H, W) to grey levels in [0, 255] whose median over the stroke is ``target`` (B,)."""
    pixels = coverage.flatten(1).sort(dim=1).values
    for _ in range(3):
        gain = gain * target / median_of_stroke((pixels * gain[:, None]).clamp(max=255)).clamp_min(1e-3)
    return (coverage * gain[:, None, None]).clamp(max=255), gain


def _shear_rows(level: Tensor, shear: Tensor, centre: Tensor) -> Tensor:
    """Shift each row y of ``level`` (B, H, W) to the right by ``shear·(y − centre)`` pixels, linearly between."""
    _, height, width = level.shape
    y = torch.arange(height, device=level.device, dtype=torch.float32)
    x = torch.arange(width, device=level.device)
    source = -shear[:, None] * (y - centre[:, None])  # (B, H): of column 0
    left = source.floor()
    column = x + left.long()[:, :, None]  # (B, H, W)
    a, b = (level.gather(2, index.clamp(0, width - 1)) for index in (column, column + 1))
    return torch.lerp(a, b, (source - left)[:, :, None])


def colourise(image: Tensor, hue: Tensor) -> Tensor:
    """Give grey images a hue at full saturation; the brightest channel keeps the grey level.

    ``channel = value · clamp(|6·((hue + offset) mod 1) − 3| − 1, 0, 1)`` with offsets 0, ⅔, ⅓ (HSV to RGB).

    Args:
        image: uint8, shape (B, 1, H, W).
        hue: fraction of the colour circle, 0 red, ⅓ green, ⅔ blue, shape (B,).

    Returns:
        uint8, shape (B, 3, H, W).
    """
    offsets = torch.tensor([0.0, 2 / 3, 1 / 3], device=image.device)
    ramp = ((6 * ((hue[:, None] + offsets) % 1) - 3).abs() - 1).clamp(0, 1)  # (B, 3)
    return (image.float() * ramp[:, :, None, None]).round().to(torch.uint8)


def measure_hue(image: Tensor) -> Tensor:
    """Return the hue of the sum of all pixels, as a fraction of the colour circle in [0, 1).

    Args:
        image: uint8 or floating, shape (B, 3, H, W). A grey image has hue 0.

    Returns:
        Tensor of shape (B,).
    """
    rgb = image.float().sum(dim=(2, 3))  # (B, 3)
    red, green, blue = rgb.unbind(dim=1)
    chroma = (rgb.amax(dim=1) - rgb.amin(dim=1)).clamp_min(1e-9)
    sectors = torch.stack([(green - blue) / chroma, (blue - red) / chroma + 2, (red - green) / chroma + 4], dim=1)
    return sectors.gather(1, rgb.argmax(dim=1, keepdim=True)).squeeze(1) / 6 % 1
