"""Redraw digits so that their measured thickness, slant and intensity match given targets.

A digit is represented by level sets on the four times finer grid of the morphometry. A radius thickens or thins it,
a shear slants it, and a gain sets its grey level; all three are corrected until the attributes measured on the final
8-bit image match the targets. The result is a deterministic function of digit and targets, so it is the true
counterfactual of the digit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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

TOLERANCE = {"thickness": 0.04, "slant": 0.003, "intensity": 0.6}  # pixels, radians, grey levels
SLOPE = SCALE / 2 * 1.1  # mean change of the radius, in fine pixels, per pixel of measured thickness
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples modulo 1 fill [0, 1) evenly
DITHER = 0.15  # half width of the search interval around the estimated radius, in fine pixels
DIRECT = 3  # full corrections before the search
PEN = 0.6  # fraction of the mean half-width that a stroke keeps where erosion would break it
FINEST_PEN = 1.5  # half-width, in fine pixels, that every stroke keeps, so that thin digits stay connected
REACH = 32  # distance from outline and axis, in fine pixels, up to which the level sets are exact
BLOCK = 64  # digits traced and drawn together; as many as fit the cache of a CPU
CHUNK = 512  # digits solved for together


def render(
    base: Tensor,
    thickness: Tensor | None = None,
    slant: Tensor | None = None,
    intensity: Tensor | None = None,
    iterations: int = 20,
) -> Tensor:
    """Redraw each digit so that its measured attributes match the targets.

    Thickness is matched within 0.05 pixels if possible; a stroke much thinner than a pixel cannot be drawn, and a
    blob as thick as the frame has no medial axis. Otherwise the closest match found is returned.

    Args:
        base: the digits, bright on dark, uint8 (B, 1, H, W).
        thickness: targets in pixels, (B,); None keeps each digit's own value.
        slant: targets in radians, positive leans right, (B,); None keeps each digit's own value.
        intensity: targets in grey levels, in (0, 255], (B,); None keeps each digit's own value.
        iterations: maximum number of corrections; digits within the tolerance stop earlier.

    Returns:
        uint8 (B, 1, H, W).
    """
    requested = {"thickness": thickness, "slant": slant, "intensity": intensity}
    targets = measure(base, tuple(name for name, target in requested.items() if target is None))
    targets |= {name: target.to(base.device, torch.float32) for name, target in requested.items() if target is not None}
    result = torch.empty_like(base)
    for start in range(0, len(base), CHUNK):
        part = slice(start, start + CHUNK)
        result[part] = _render_chunk(base[part], {name: target[part] for name, target in targets.items()}, iterations)
    return result


@dataclass
class Drawing:
    """Level sets of a batch of digits on the fine grid, in fine pixels.

    Args:
        shape: signed distance to the outline, positive inside the stroke, (B, 4H, 4W).
        axis: minus the distance to the medial axis, (B, 4H, 4W).
        half_width: mean distance from the medial axis to the outline, (B,).
        centre: row of the centroid, around which the digit is sheared, (B,).
    """

    shape: Tensor
    axis: Tensor
    half_width: Tensor
    centre: Tensor

    @classmethod
    def trace(cls, base: Tensor) -> "Drawing":
        """Trace the outline and the medial axis of ``base``, (B, H, W)."""
        fine = upscale(base)
        ink = binarise(fine)
        inside, outside = squared_distance(ink), squared_distance(~ink, REACH).sqrt()
        axis = medial_axis(ink, inside)
        inside = inside.sqrt()
        half_width = (inside * axis).sum(dim=(1, 2)) / axis.sum(dim=(1, 2)).clamp_min(1)
        # Without the branches into corners, which would grow into spikes.
        path = axis & (inside > PEN * half_width[:, None, None])
        rows = torch.arange(fine.shape[1], device=base.device, dtype=torch.float32)
        centre = (fine.sum(dim=2) @ rows) / fine.sum(dim=(1, 2)).clamp_min(1)
        return cls(inside - outside - ink.float() + 0.5, -squared_distance(~path, REACH).sqrt(), half_width, centre)

    def draw(self, radius: Tensor, shear: Tensor) -> Tensor:
        """Grow each stroke by a radius, shear it and downscale it.

        The stroke is a level set of the outline, united with a pen along the axis that rarely lets thinning break it.
        The pen has `PEN` times the half-width of the stroke, but at least `FINEST_PEN`.

        Args:
            radius: growth in fine pixels, (B,).
            shear: shift to the right in pixels per row, (B,).

        Returns:
            Coverage of each pixel in [0, 1], (B, H, W).
        """
        pen = (PEN * (self.half_width + radius)).clamp_min(FINEST_PEN)
        level = torch.maximum(self.shape + radius[:, None, None], self.axis + pen[:, None, None])
        return downscale((_shear_rows(level, shear, self.centre) + 0.5).clamp(0, 1)).clamp_min(0)

    @classmethod
    def join(cls, parts: "list[Drawing]") -> "Drawing":
        """Concatenate several drawings."""
        return cls(*(torch.cat(field) for field in zip(*(vars(part).values() for part in parts))))

    def subset(self, index: Tensor) -> "Drawing":
        """Select the digits at ``index``."""
        return Drawing(self.shape[index], self.axis[index], self.half_width[index], self.centre[index])


def _render_chunk(base: Tensor, targets: dict[str, Tensor], iterations: int) -> Tensor:
    """Solve for radius, shear and gain of each digit in ``base``, uint8 (B, 1, H, W)."""
    drawing = Drawing.join([Drawing.trace(part) for part in base[:, 0].split(BLOCK)])
    b, device = len(base), base.device
    shear = measure(base, ("slant",))["slant"].tan() - targets["slant"].tan()
    best, best_error = base.clone(), torch.full((b,), math.inf, device=device)
    active = torch.arange(b, device=device)
    radius = SLOPE * (targets["thickness"] - 2 / SCALE * drawing.half_width)
    probe, gain = radius.clone(), targets["intensity"].clone()
    for k in range(iterations):
        target = {name: value[active] for name, value in targets.items()}
        coverage = torch.cat([drawing.subset(i).draw(probe[i], shear[i]) for i in active.split(BLOCK)])
        exposed, gain[active] = _expose(coverage, target["intensity"], gain[active])
        image = exposed.round().to(torch.uint8)[:, None]
        measured = measure(image, tuple(TOLERANCE))
        errors = [(measured[name] - target[name]).abs() / TOLERANCE[name] for name in TOLERANCE]
        error = torch.stack(errors).amax(dim=0)
        better = error < best_error[active]
        best[active[better]], best_error[active[better]] = image[better], error[better]

        shear[active] += measured["slant"].tan() - target["slant"].tan()
        # Branches of the medial axis appear and vanish as a stroke grows, so measured thickness is a noisy function
        # of the radius: average the estimates of its root, and probe different radii around it.
        estimate = probe[active] + SLOPE * (target["thickness"] - measured["thickness"])
        radius[active] += (estimate - radius[active]) / min(max(k + 1 - DIRECT, 1), 3)
        radius = torch.maximum(radius, -drawing.half_width)
        probe[active] = radius[active] + (DITHER * (2 * (k * GOLDEN % 1) - 1) if k >= DIRECT else 0)
        active = active[error > 1]
        if not len(active):
            break
    return best


def _expose(coverage: Tensor, target: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Scale coverage (B, H, W) to grey levels in [0, 255] whose `intensity` is ``target``, (B,)."""
    pixels = coverage.flatten(1).sort(dim=1).values
    for _ in range(3):
        gain = gain * target / median_of_stroke((pixels * gain[:, None]).clamp(max=255)).clamp_min(1e-3)
    return (coverage * gain[:, None, None]).clamp(max=255), gain


def _shear_rows(level: Tensor, shear: Tensor, centre: Tensor) -> Tensor:
    """Shift each row y of ``level`` (B, H, W) right by ``shear·(y − centre)`` pixels, interpolated linearly."""
    _, height, width = level.shape
    y, x = (torch.arange(n, device=level.device, dtype=level.dtype) for n in (height, width))
    column = x - (shear[:, None] * (y - centre[:, None]))[:, :, None]  # (B, H, W), the source of each pixel
    row = y[:, None].expand_as(column)
    where = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=3)
    return F.grid_sample(level[:, None], where, padding_mode="border", align_corners=False)[:, 0]


def colourise(image: Tensor, hue: Tensor) -> Tensor:
    """Colour grey images with a hue at full saturation; the brightest channel keeps the grey level.

    ``channel = grey · clamp(|6·((hue + offset) mod 1) − 3| − 1, 0, 1)`` with offsets 0, ⅔, ⅓ (HSV to RGB).

    Args:
        image: uint8 (B, 1, H, W).
        hue: fraction of the colour circle, 0 red, ⅓ green, ⅔ blue, (B,).

    Returns:
        uint8 (B, 3, H, W).
    """
    offsets = torch.tensor([0.0, 2 / 3, 1 / 3], device=image.device)
    ramp = ((6 * ((hue[:, None] + offsets) % 1) - 3).abs() - 1).clamp(0, 1)  # (B, 3)
    return (image.float() * ramp[:, :, None, None]).round().to(torch.uint8)


def measure_hue(image: Tensor) -> Tensor:
    """Measure the hue of the sum of all pixels.

    Args:
        image: uint8 or floating, (B, 3, H, W).

    Returns:
        Fraction of the colour circle in [0, 1), (B,); 0 for grey images.
    """
    rgb = image.float().sum(dim=(2, 3))  # (B, 3)
    red, green, blue = rgb.unbind(dim=1)
    chroma = (rgb.amax(dim=1) - rgb.amin(dim=1)).clamp_min(1e-9)
    sectors = torch.stack([(green - blue) / chroma, (blue - red) / chroma + 2, (red - green) / chroma + 4], dim=1)
    return sectors.gather(1, rgb.argmax(dim=1, keepdim=True)).squeeze(1) / 6 % 1
