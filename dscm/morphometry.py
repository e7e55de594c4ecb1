"""Measure the shape of a whole batch of digits at once, after Morpho-MNIST (Castro et al. 2019).

A digit is upscaled four times, binarised at half its range and thinned to its medial axis; thickness is
twice the mean distance from that axis to the background. The original works through one image at a time.
Here every step takes the batch: scaling is two matrix products, the distance map a running minimum, and the
thinning visits the k-th pixel of all images in its k-th step.
"""

import functools
import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

SCALE = 4  # of the upscaled image on which everything but intensity is measured
BOUND_FRACTION = 0.02  # share of the ink that width and height leave outside
CHUNK = 128  # images measured together: what fits the cache of a CPU
NAMES = ("thickness", "intensity", "slant", "area", "length", "width", "height")


def measure(images: Tensor, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    """Measure each digit of a batch.

    An image without ink (constant) has slant, sizes and thickness 0.

    Args:
        images: grey levels 0 to 255, bright ink on dark ground, shape (B, 1, H, W) or (B, 3, H, W), of which
            the brightest channel counts; uint8 or floating.
        names: which of `NAMES` to return; length and thickness cost most.

    Returns:
        A float32 tensor of shape (B,) for each name: thickness, length, width and height in pixels, area in
        square pixels, slant in radians (positive leans to the right), intensity in grey levels.
    """
    grey = images.amax(dim=1)
    parts = [_measure_chunk(chunk, names) for chunk in grey.split(CHUNK)]
    return (
        {name: torch.cat([part[name] for part in parts]) for name in names}
        if parts
        else {name: torch.zeros(0) for name in names}
    )


def _measure_chunk(grey: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Measure the images ``grey`` of shape (B, H, W)."""
    result = {"intensity": intensity(grey)}
    if set(names) - {"intensity"}:
        fine = upscale(grey)
        centre, shear = _shear(fine)
        result["slant"] = torch.atan(-shear)
        if {"width", "height"} & set(names):
            result["width"], result["height"] = _bounds(fine, centre, shear)
        if {"area", "length", "thickness"} & set(names):
            ink = binarise(fine)
            result["area"] = ink.sum(dim=(1, 2)).float() / SCALE**2
            if {"length", "thickness"} & set(names):
                squared = squared_distance(ink)
                axis = medial_axis(ink, squared)
                result["thickness"] = 2 / SCALE * _mean(squared.sqrt(), axis)
                result["length"] = _path_length(axis) / SCALE
    return {name: result[name].float() for name in names}


def intensity(grey: Tensor) -> Tensor:
    """Take the median of the pixels at or above half of each image's range.

    Args:
        grey: grey levels, shape (B, H, W).

    Returns:
        Grey levels, shape (B,); 0 for an empty image.
    """
    grey = grey.float()
    flat = grey.flatten(1)
    values = flat.sort(dim=1).values
    count = binarise(grey).flatten(1).sum(dim=1)
    last = flat.shape[1] - 1
    upper = (last - (count - 1).div(2, rounding_mode="floor")).clamp(max=last)
    lower = (last - count.div(2, rounding_mode="floor")).clamp(max=last)
    pair = values.gather(1, torch.stack([lower, upper], dim=1))
    return pair.mean(dim=1)


def binarise(grey: Tensor) -> Tensor:
    """Mark the pixels at or above half of each image's range, shape (B, H, W) bool; none if it is constant."""
    low, high = grey.amin(dim=(1, 2), keepdim=True), grey.amax(dim=(1, 2), keepdim=True)
    return (grey >= low + (high - low) * 0.5) & (high > low)


def upscale(grey: Tensor) -> Tensor:
    """Magnify grey levels (B, H, W) by `SCALE`: cubic spline, clipped to the range; a Gaussian; whole levels."""
    (zoom_rows, smooth_rows), (zoom_columns, smooth_columns) = (_upscaling(n, grey.device) for n in grey.shape[-2:])
    grey = grey.double()
    low, high = grey.amin(dim=(1, 2), keepdim=True), grey.amax(dim=(1, 2), keepdim=True)
    fine = torch.clamp(zoom_rows @ grey @ zoom_columns.T, low, high)
    # A hair above the level, so that a plateau of whole levels is not rounded down.
    return (smooth_rows @ fine @ smooth_columns.T + 1e-6).floor().float()


def downscale(fine: Tensor) -> Tensor:
    """Reduce images (B, 4H, 4W) by `SCALE`: a Gaussian of 4/3 fine pixels, then a cubic spline."""
    rows, columns = (_downscaling(n, fine.device) for n in fine.shape[-2:])
    return rows @ fine @ columns.T


@functools.lru_cache
def _upscaling(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the matrices of the spline (4·size, size) and of the Gaussian (4·size, 4·size) along one axis."""
    spline = ndimage.zoom(np.eye(size), (SCALE, 1), order=3, mode="mirror", grid_mode=True)
    smooth = ndimage.gaussian_filter1d(np.eye(SCALE * size), SCALE / 3, axis=0, mode="reflect")
    return torch.from_numpy(spline).to(device), torch.from_numpy(smooth).to(device)


@functools.lru_cache
def _downscaling(size: int, device: torch.device) -> Tensor:
    """Return the matrix (size/4, size) of the Gaussian and the spline along one axis."""
    smooth = ndimage.gaussian_filter1d(np.eye(size), SCALE / 3, axis=0, mode="reflect")
    spline = ndimage.zoom(smooth, (1 / SCALE, 1), order=3, mode="mirror", grid_mode=True)
    return torch.from_numpy(spline).float().to(device)


def _shear(fine: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centroid's row and μ11/μ02 of images (B, H, W), each of shape (B,)."""
    x = torch.arange(fine.shape[2], device=fine.device, dtype=torch.float64)
    y = torch.arange(fine.shape[1], device=fine.device, dtype=torch.float64)
    fine = fine.double()
    mass = fine.sum(dim=(1, 2)).clamp_min(1e-12)
    by_row, by_column = fine.sum(dim=2) / mass[:, None], fine.sum(dim=1) / mass[:, None]  # (B, H), (B, W)
    centre_x, centre_y = by_column @ x, by_row @ y
    mu11 = torch.einsum("bhw,h,w->b", fine, y, x) / mass - centre_x * centre_y
    mu02 = by_row @ y**2 - centre_y**2
    return centre_y, mu11 / mu02.clamp_min(1e-12)


def _bounds(fine: Tensor, centre: Tensor, shear: Tensor) -> tuple[Tensor, Tensor]:
    """Measure width and height, in pixels, of the sheared box that holds all but `BOUND_FRACTION` of the ink."""
    b, height, width = fine.shape
    y = torch.arange(height, device=fine.device, dtype=torch.float64)
    x = torch.arange(width, device=fine.device, dtype=torch.float64)
    # A pixel (x, y) lies left of the slanted line through t where x + ½ − shear·(y − centre) < t.
    position = x + 0.5 - shear[:, None, None] * (y[None, :, None] - centre[:, None, None])  # (B, H, W)
    column = (position.floor() + 1).clamp(0, width).long().flatten(1)
    ink = fine.double().flatten(1)
    histogram = torch.zeros(b, width + 1, dtype=torch.float64, device=fine.device).scatter_add_(1, column, ink)
    horizontal = histogram.cumsum(dim=1)[:, :width]
    vertical = torch.cat([torch.zeros(b, 1, device=fine.device), fine.sum(dim=2)], dim=1).double().cumsum(dim=1)
    mass = ink.sum(dim=1, keepdim=True).clamp_min(1e-12)
    spans = []
    drawn = fine.amax(dim=(1, 2)) > fine.amin(dim=(1, 2))
    for cdf in (horizontal / mass, vertical[:, :height] / mass):
        span = _quantile(cdf, 1 - BOUND_FRACTION / 2) - _quantile(cdf, BOUND_FRACTION / 2)
        spans.append(span * drawn / SCALE)
    return spans[0], spans[1]


def _quantile(cdf: Tensor, q: float) -> Tensor:
    """Find where each row of ``cdf`` (B, N), linear between the integers, reaches ``q``; shape (B,)."""
    right = torch.searchsorted(cdf, torch.full_like(cdf[:, :1], q), right=True).clamp(1, cdf.shape[1] - 1)
    low, high = cdf.gather(1, right - 1), cdf.gather(1, right)
    step = ((q - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return (right - 1 + step).squeeze(1)


def squared_distance(ink: Tensor) -> Tensor:
    """Return the exact squared Euclidean distance of each ink pixel to the nearest background pixel.

    ``d²(i, j) = min_k (i − k)² + g(k, j)²``, where g is the distance within the row. Beyond the frame there is
    no background, as in scipy.

    Args:
        ink: bool, shape (B, H, W).

    Returns:
        float32, shape (B, H, W); 0 on the background. Images without background get H² + W².
    """
    height, width = ink.shape[-2:]
    row, column = _row_distance(ink), _row_distance(ink.mT).mT
    reach = int(torch.minimum(row, column).max()) if ink.numel() else 0  # the nearest background is no farther
    far = height**2 + width**2
    squared = torch.where(row > width, far, row * row)
    best, shifted = squared.clone(), torch.empty_like(squared)
    for k in range(1, min(reach, height - 1) + 1):
        torch.add(squared, k * k, out=shifted)
        torch.minimum(best[:, k:], shifted[:, :-k], out=best[:, k:])
        torch.minimum(best[:, :-k], shifted[:, k:], out=best[:, :-k])
    return best.clamp_(max=far).float()


def _row_distance(ink: Tensor) -> Tensor:
    """Return the distance of each pixel to the background in its row; more than the width where there is none."""
    return torch.minimum(_distance_to_the_left(ink), _distance_to_the_left(ink.flip(-1)).flip(-1))


def _distance_to_the_left(ink: Tensor) -> Tensor:
    """Return how far to the left in its row the nearest background of each pixel lies."""
    width = ink.shape[-1]
    x = torch.arange(width, device=ink.device, dtype=torch.int32).expand(ink.shape)
    nearest = torch.where(ink, -2 * sum(ink.shape[-2:]), x)  # farther than anything in the frame
    reach = 1  # a running maximum by doubling: vectorised, unlike cummax
    while reach < width:
        nearest = torch.cat([nearest[..., :reach], torch.maximum(nearest[..., reach:], nearest[..., :-reach])], dim=-1)
        reach *= 2
    return x - nearest


def medial_axis(ink: Tensor, squared: Tensor) -> Tensor:
    """Thin each shape to its medial axis.

    Ink pixels are visited in the order of their distance to the background, exposed corners first; one is
    removed unless it ends a line or its removal would split or join pieces of its 3×3 neighbourhood. This is
    the definition that the original library uses (scikit-image's ``medial_axis``); ties are broken in
    scanning order. The k-th pixels of all images are visited in one step, so a batch costs about as much as
    the image with the most ink.

    Args:
        ink: bool, shape (B, H, W).
        squared: squared distances to the background, as `squared_distance` returns them.

    Returns:
        bool, shape (B, H, W).
    """
    b, height, width = ink.shape
    padded = torch.nn.functional.pad(ink, (1, 1, 1, 1)).to(torch.uint8)  # (B, H + 2, W + 2)
    stride, area = width + 2, (height + 2) * (width + 2)
    neighbours = sum(
        padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    )
    image, y, x = ink.nonzero(as_tuple=True)
    exposed = 9 - neighbours[image, y, x].long()
    key = (image * (height**2 + width**2 + 1) + squared[image, y, x].long()) * 16 + exposed
    order = key.argsort(stable=True)
    count = torch.bincount(image, minlength=b)
    rank = torch.arange(len(image), device=ink.device) - (count.cumsum(0) - count)[image]
    steps = int(count.max()) if b else 0
    # Row k holds where the k-th pixel of each image lies; images with fewer pixels idle on the padding.
    visits = (torch.arange(b, device=ink.device) * area).repeat(steps, 1)
    visits[rank, image] = (image * area + (y + 1) * stride + x + 1)[order]
    return _thin(padded.flatten(), visits, stride).view(b, height + 2, width + 2)[:, 1:-1, 1:-1].bool()


def _thin(mask: Tensor, visits: Tensor, stride: int) -> Tensor:
    """Visit the pixels of ``visits`` (steps, B) in turn and clear those that `_keep_table` lets go."""
    device = mask.device
    offsets = torch.tensor([dy * stride + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)], device=device)
    if device.type == "cpu":
        return torch.from_numpy(_thin_numpy(mask.numpy(), visits.numpy(), offsets.numpy(), _keep_table().numpy()))
    weights = 2 ** torch.arange(9, device=device)
    keep = _keep_table().to(device)
    for pixels in visits:
        # The padding in front of the first image is read at negative positions, which wrap to padding.
        pattern = (mask[(pixels[:, None] + offsets) % len(mask)] * weights).sum(dim=1)
        mask[pixels] = keep[pattern]
    return mask


def _thin_numpy(mask: np.ndarray, visits: np.ndarray, offsets: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Do what `_thin` does in numpy, whose calls on small arrays cost a fraction of torch's."""
    weights = 2 ** np.arange(9, dtype=np.int16)
    for pixels in visits:
        pattern = mask.take(pixels[:, None] + offsets, mode="wrap") @ weights
        mask[pixels] = keep[pattern]
    return mask


@functools.lru_cache
def _keep_table() -> Tensor:
    """Tabulate, for each of the 512 patterns of 3×3 pixels, whether the centre must stay."""
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
    """Average ``values`` (B, H, W) where ``mask``; 0 where it is empty."""
    return (values * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)


def _path_length(axis: Tensor) -> Tensor:
    """Add up the steps between neighbouring pixels of a skeleton (B, H, W): 1 straight, √2 diagonal."""
    straight = (axis[:, :, 1:] & axis[:, :, :-1]).sum(dim=(1, 2)) + (axis[:, 1:] & axis[:, :-1]).sum(dim=(1, 2))
    falling, rising = axis[:, 1:, 1:] & axis[:, :-1, :-1], axis[:, 1:, :-1] & axis[:, :-1, 1:]
    return straight + math.sqrt(2) * (falling.sum(dim=(1, 2)) + rising.sum(dim=(1, 2)))
