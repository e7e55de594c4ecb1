"""Morphometry of batches of digits, after Morpho-MNIST (Castro et al. 2019).

A digit is upscaled by a factor of four, binarised at half its range and thinned to its medial axis; thickness is
twice the mean distance from that axis to the background. The original code takes one image at a time; here every
step takes a batch: scaling is two matrix products, the distance map is a running minimum, and thinning visits all
pixels of equal rank, in all images, in one step.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SCALE = 4  # factor of the upscaled image, on which everything but intensity is measured
BOUND_FRACTION = 0.02  # fraction of the ink outside width and height
BACKGROUND = 0.75  # share of an image's range above which its frame is bright
CHUNK = 128  # images measured together; as many as fit the cache of a CPU
NAMES = ("thickness", "intensity", "slant", "area", "width", "height")


def measure(images: Tensor, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    """Measure each digit of a batch.

    A constant image has no ink: its slant, sizes and thickness are 0.

    Args:
        images: bright digits on a dark background, uint8 or floating grey levels in [0, 255], (B, 1, H, W) or
            (B, 3, H, W); in colour, the brightest channel counts.
        names: the measurements to return, of `NAMES`; thickness takes most of the time.

    Returns:
        float32 (B,) for each name: thickness, width and height in pixels, area in square pixels, slant in radians
        (positive leans right), intensity in grey levels.
    """
    grey = images.amax(dim=1)
    parts = [_measure_chunk(chunk, names) for chunk in grey.split(CHUNK)]
    return (
        {name: torch.cat([part[name] for part in parts]) for name in names}
        if parts
        else {name: torch.zeros(0) for name in names}
    )


def find_strokeless(images: Tensor) -> dict[int, str]:
    """Find images that hold no bright strokes on a dark background, so that `measure` means nothing.

    Args:
        images: grey levels, (B, C, H, W); in colour, the brightest channel counts.

    Returns:
        By the number of the image, the reason.
    """
    grey = images.amax(dim=1).float()
    low, high = grey.amin(dim=(1, 2)), grey.amax(dim=(1, 2))
    frame = torch.cat([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], dim=1).median(dim=1).values
    faults: dict[int, str] = {}
    for i in (frame > low + BACKGROUND * (high - low)).nonzero().flatten().tolist():
        faults[i] = "dark strokes on a bright background; white strokes on black are expected: invert the image"
    for i in (low == high).nonzero().flatten().tolist():
        faults[i] = "blank, all pixels are equal; white strokes on black are expected"
    return faults


def _measure_chunk(grey: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Measure the images ``grey``, (B, H, W)."""
    result = {"intensity": intensity(grey)}
    if set(names) - {"intensity"}:
        fine = upscale(grey)
        centre, shear = _shear(fine)
        result["slant"] = torch.atan(-shear)
        if {"width", "height"} & set(names):
            result["width"], result["height"] = _bounds(fine, centre, shear)
        if {"area", "thickness"} & set(names):
            ink = binarise(fine)
            result["area"] = ink.sum(dim=(1, 2)).float() / SCALE**2
            if "thickness" in names:
                squared = squared_distance(ink)
                result["thickness"] = 2 / SCALE * _mean(squared.sqrt(), medial_axis(ink, squared))
    return {name: result[name].float() for name in names}


def intensity(grey: Tensor) -> Tensor:
    """Return the median of the pixels at or above half of each image's range.

    Args:
        grey: grey levels, (B, H, W).

    Returns:
        Grey levels, (B,); 0 for a black image.
    """
    return median_of_stroke(grey.float().flatten(1).sort(dim=1).values)


def median_of_stroke(values: Tensor) -> Tensor:
    """Return the `intensity`, (B,), of images whose pixels ``values``, (B, H·W), are sorted in ascending order."""
    low, high = values[:, :1], values[:, -1:]
    dark = torch.searchsorted(values, low + (high - low) * 0.5)  # (B, 1): number of pixels below half of the range
    last = values.shape[1] - 1
    ends = torch.where(high > low, dark, last) + last  # first plus last position of the ink
    return values.gather(1, torch.cat([ends // 2, (ends + 1) // 2], dim=1)).mean(dim=1)


def binarise(grey: Tensor) -> Tensor:
    """Return whether each pixel is at or above half of its image's range, bool (B, H, W); none is in a constant one."""
    low, high = grey.amin(dim=(1, 2), keepdim=True), grey.amax(dim=(1, 2), keepdim=True)
    return (grey >= low + (high - low) * 0.5) & (high > low)


def upscale(grey: Tensor) -> Tensor:
    """Upscale grey levels (B, H, W) by `SCALE`: clipped cubic spline, Gaussian, rounding down to whole levels."""
    (zoom_rows, smooth_rows), (zoom_columns, smooth_columns) = (_upscaling(n, grey.device) for n in grey.shape[-2:])
    grey = grey.float()
    low, high = grey.amin(dim=(1, 2), keepdim=True), grey.amax(dim=(1, 2), keepdim=True)
    fine = torch.clamp(zoom_rows @ (grey @ zoom_columns.T), low, high)
    # The small offset keeps plateaus of whole levels from being rounded down.
    return (smooth_rows @ (fine @ smooth_columns.T) + 1e-3).floor()


def downscale(fine: Tensor) -> Tensor:
    """Downscale images (B, 4H, 4W) by `SCALE`: a Gaussian with σ = 4/3 pixels, then a cubic spline."""
    rows, columns = (_downscaling(n, fine.device) for n in fine.shape[-2:])
    return rows @ fine @ columns.T


@functools.lru_cache
def _upscaling(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the matrices of the spline, (4·size, size), and the Gaussian, (4·size, 4·size), along one axis."""
    from scipy import ndimage  # takes as long to import as all of this package

    spline = ndimage.zoom(np.eye(size), (SCALE, 1), order=3, mode="mirror", grid_mode=True)
    smooth = ndimage.gaussian_filter1d(np.eye(SCALE * size), SCALE / 3, axis=0, mode="reflect")
    return torch.from_numpy(spline).float().to(device), torch.from_numpy(smooth).float().to(device)


@functools.lru_cache
def _downscaling(size: int, device: torch.device) -> Tensor:
    """Return the matrix of the Gaussian and the spline, (size/4, size), along one axis."""
    from scipy import ndimage  # takes as long to import as all of this package

    smooth = ndimage.gaussian_filter1d(np.eye(size), SCALE / 3, axis=0, mode="reflect")
    spline = ndimage.zoom(smooth, (1 / SCALE, 1), order=3, mode="mirror", grid_mode=True)
    return torch.from_numpy(spline).float().to(device)


def _shear(fine: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centroid's row and the shear μ11/μ02 of whole levels (B, H, W), each (B,)."""
    x = torch.arange(fine.shape[2], device=fine.device, dtype=torch.float32)
    y = torch.arange(fine.shape[1], device=fine.device, dtype=torch.float64)
    rows = fine @ torch.stack([torch.ones_like(x), x], dim=1)  # (B, H, 2), sums of whole numbers, exact in float32
    mass_of_row, moment_of_row = rows.double().unbind(dim=2)
    mass = mass_of_row.sum(dim=1).clamp_min(1e-12)
    by_row = mass_of_row / mass[:, None]
    centre_x, centre_y = moment_of_row.sum(dim=1) / mass, by_row @ y
    mu11 = (moment_of_row @ y) / mass - centre_x * centre_y
    mu02 = by_row @ y**2 - centre_y**2
    return centre_y, mu11 / mu02.clamp_min(1e-12)


def _bounds(fine: Tensor, centre: Tensor, shear: Tensor) -> tuple[Tensor, Tensor]:
    """Return width and height, (B,) in pixels, of the sheared box around all but `BOUND_FRACTION` of the ink."""
    b, height, width = fine.shape
    y = torch.arange(height, device=fine.device, dtype=torch.float64)
    x = torch.arange(width, device=fine.device, dtype=torch.float64)
    # A pixel (x, y) is left of the slanted line through t if x + ½ − shear·(y − centre) < t.
    position = x + 0.5 - shear[:, None, None] * (y[None, :, None] - centre[:, None, None])  # (B, H, W)
    column = (position.floor() + 1).clamp(0, width).long().flatten(1)
    ink = fine.double().flatten(1)
    histogram = torch.zeros(b, width + 1, dtype=torch.float64, device=fine.device).scatter_add_(1, column, ink)
    horizontal = histogram.cumsum(dim=1)[:, :width]
    vertical = torch.cat([torch.zeros(b, 1, device=fine.device), fine.sum(dim=2)], dim=1).double().cumsum(dim=1)
    mass = ink.sum(dim=1, keepdim=True).clamp_min(1e-12)
    spans = []
    has_ink = fine.amax(dim=(1, 2)) > fine.amin(dim=(1, 2))
    for cdf in (horizontal / mass, vertical[:, :height] / mass):
        span = _quantile(cdf, 1 - BOUND_FRACTION / 2) - _quantile(cdf, BOUND_FRACTION / 2)
        spans.append(span * has_ink / SCALE)
    return spans[0], spans[1]


def _quantile(cdf: Tensor, q: float) -> Tensor:
    """Return where each row of ``cdf`` (B, N), interpolated linearly, reaches ``q``, (B,)."""
    right = torch.searchsorted(cdf, torch.full_like(cdf[:, :1], q), right=True).clamp(1, cdf.shape[1] - 1)
    low, high = cdf.gather(1, right - 1), cdf.gather(1, right)
    step = ((q - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return (right - 1 + step).squeeze(1)


def squared_distance(ink: Tensor, limit: int | None = None) -> Tensor:
    """Return the exact squared Euclidean distance of each ink pixel to the nearest background pixel.

    ``d²(i, j) = min_k (i − k)² + g(k, j)²``, where g is the distance within row k. There is no background beyond the
    frame, as in scipy.

    Args:
        ink: bool, (B, H, W).
        limit: the largest distance in pixels; larger ones are clipped, which saves time. None does not clip.

    Returns:
        float32 (B, H, W) in square pixels; 0 on the background, and H² + W² or ``limit``² in images without any.
    """
    height, width = ink.shape[-2:]
    far = height**2 + width**2 if limit is None else limit**2
    row, column = _row_distance(ink), _row_distance(ink.mT.contiguous()).mT
    reach = int(torch.minimum(row, column).max()) if ink.numel() else 0  # bounds every distance
    reach = min(reach, height - 1, math.isqrt(far))
    if far + reach**2 >= 2**15:  # otherwise int16, which is faster, cannot overflow
        row = row.int()
    squared = torch.where(row > math.isqrt(far), torch.tensor(far, dtype=row.dtype, device=ink.device), row * row)
    best, shifted = squared.clone(), torch.empty_like(squared)
    for k in range(1, reach + 1):
        torch.add(squared, k * k, out=shifted)
        torch.minimum(best[:, k:], shifted[:, :-k], out=best[:, k:])
        torch.minimum(best[:, :-k], shifted[:, k:], out=best[:, :-k])
    return best.clamp_(max=far).float()


def _row_distance(ink: Tensor) -> Tensor:
    """Return the distance of each pixel to the background in its row, int16; if there is none, beyond any in reach."""
    width = ink.shape[-1]
    distance = ink.short() * (2 * sum(ink.shape[-2:]))  # beyond any distance in the frame
    reach = 1  # doubles: after k rounds, distances below 2^k are final
    while reach < width:
        farther = distance + reach
        distance = distance.clone()
        torch.minimum(distance[..., reach:], farther[..., :-reach], out=distance[..., reach:])
        torch.minimum(distance[..., :-reach], farther[..., reach:], out=distance[..., :-reach])
        reach *= 2
    return distance


def medial_axis(ink: Tensor, squared: Tensor) -> Tensor:
    """Thin each shape to its medial axis.

    Ink pixels are visited in the order of their distance to the background, exposed corners last. A pixel is removed
    unless it ends a line or its removal splits or joins pieces of its 3×3 neighbourhood. The original library uses
    the same definition (scikit-image's ``medial_axis``) and breaks ties at random. Here ties are broken by the parity
    of row and column: pixels of equal parity are not adjacent, so all that tie are visited in one step, in any number
    of images, and no direction is preferred. Parity counts from the middle of the frame towards the side on which most
    of the ink lies, so the axis of a mirror image is the mirror image of the axis.

    Args:
        ink: bool, (B, H, W).
        squared: squared distances to the background, as `squared_distance` returns them.

    Returns:
        bool, (B, H, W).
    """
    _, height, width = ink.shape
    padded = torch.nn.functional.pad(ink, (1, 1, 1, 1)).to(torch.uint8)  # (B, H + 2, W + 2)
    neighbours = torch.zeros_like(ink, dtype=torch.uint8)
    for dy, dx in itertools.product(range(3), repeat=2):
        neighbours += padded[:, dy : dy + height, dx : dx + width]
    image, y, x = ink.nonzero(as_tuple=True)
    exposed = 9 - neighbours[image, y, x].long()
    parity = _parity_from_middle(ink.sum(dim=2), image, y) * 2 + _parity_from_middle(ink.sum(dim=1), image, x)
    key = (squared[image, y, x].long() * 9 + exposed) * 4 + parity
    key, order = key.sort()
    pixels = ((image * (height + 2) + y + 1) * (width + 2) + x + 1)[order]
    ties = key.unique_consecutive(return_counts=True)[1].tolist()
    return _thin(padded.flatten(), pixels.split(ties), width + 2).view(padded.shape)[:, 1:-1, 1:-1].bool()


def _parity_from_middle(mass: Tensor, image: Tensor, position: Tensor) -> Tensor:
    """Return 0 or 1 for pixels, in turn along an axis, so that a mirror image has the mirrored ones.

    Args:
        mass: ink pixels at each position, int64 (B, N).
        image, position: the pixels, each (P,).
    """
    offset = 2 * torch.arange(mass.shape[1], device=mass.device) - (mass.shape[1] - 1)  # twice that from the middle
    side = torch.where((mass * offset).sum(dim=1) < 0, -1, 1)  # (B,)
    return side[image] * offset[position] % 4 // 2


def _thin(mask: Tensor, visits: Sequence[Tensor], stride: int) -> Tensor:
    """Visit each group of pixels in turn and clear those in ``mask`` that `_keep_table` does not keep."""
    device = mask.device
    offsets = torch.tensor([dy * stride + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)], device=device)
    weights, keep = 2 ** torch.arange(9, dtype=torch.int16, device=device), _keep_table().to(device)
    if device.type == "cpu":  # NumPy has far less overhead on small arrays
        _visit(mask.numpy(), [pixels.numpy() for pixels in visits], offsets.numpy(), weights.numpy(), keep.numpy())
    else:
        _visit(mask, visits, offsets, weights, keep)
    return mask


def _visit(mask: Any, visits: Sequence[Any], offsets: Any, weights: Any, keep: Any) -> None:
    """Update ``mask`` in place by the table ``keep``, where all are tensors or all are arrays."""
    for pixels in visits:
        mask[pixels] = keep[(mask[pixels[:, None] + offsets] * weights).sum(1)]


@functools.lru_cache
def _keep_table() -> Tensor:
    """Tabulate whether the centre pixel stays for each of the 512 patterns of 3×3 pixels, uint8 (512,)."""
    from scipy import ndimage  # takes as long to import as all of this package

    eight = np.ones((3, 3))
    keep = torch.zeros(512, dtype=torch.uint8)
    for pattern in range(512):
        pixels = ((pattern >> np.arange(9)) & 1).reshape(3, 3)
        without = pixels.copy()
        without[1, 1] = 0
        splits = ndimage.label(pixels, eight)[1] != ndimage.label(without, eight)[1]
        keep[pattern] = bool(pixels[1, 1] and (splits or pixels.sum() < 3))
    return keep


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average ``values`` (B, H, W) over ``mask``, (B,); 0 if the mask is empty."""
    return (values * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)
