"""Skin markers on real mammograms: where the breast is, where markers lie on it, and how they are painted."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.data.mammogram import BACKGROUND
from dscm.data.phantoms.canvas import Canvas, pixel_grid
from dscm.data.phantoms.markers import RANGES, STROKE, Markers, marker_box, paint_markers, swap_markers
from dscm.data.phantoms.seeds import draw_uniform, make_generators
from dscm.errors import UnreadableImage

ROWS = 128  # of the small image in which the breast is looked for
TISSUE = 0.12  # fraction of the image's brightest level; darker pixels are film
THIN = 2  # rows of the small image: narrower links between the breast and what else is on the film are cut
LEAST = 0.02  # fraction of an image that its breast covers at least
DARK = 0.05  # fraction of the pixels of a column that may be lit in a black margin, by dust and the like
CLEAR = 0.6  # brightness of tissue, below which every marker stands out
TRIES = 12  # further places, of which the first below `CLEAR` is taken; or else the darkest
BODY = 0.866  # of half an ellipse's height, within which it is at least half as deep as at its middle


class Breast(NamedTuple):
    """Where the breast lies in a mammogram, in half heights of the image from its chest wall's edge and its centre.

    Args:
        mirrored: whether the chest wall is on the right; x then counts from the right edge.
        middle, half_height: its centre and extent along y.
        near, far: by row of the small image, x of the chest wall and of the skin.
        small: the small image, chest wall on the left, in [0, 1], (`ROWS`, W).
    """

    mirrored: bool
    middle: float
    half_height: float
    near: np.ndarray
    far: np.ndarray
    small: np.ndarray


def find_breast(pixels: np.ndarray) -> Breast:
    """Find the breast: the largest region that is brighter than film, without labels and the film's edges.

    Args:
        pixels: unsigned integers (H, W), H at least `ROWS`.

    Raises:
        UnreadableImage: there is none.
    """
    small = _shrink(pixels)
    mask = _find_mask(small)
    columns = np.flatnonzero(mask.any(axis=0))
    centre = (mask.sum(axis=0) * np.arange(mask.shape[1])).sum() / mask.sum()
    mirrored = bool(centre > (columns[0] + columns[-1]) / 2)  # a breast is deepest where its chest wall is
    if mirrored:
        mask, small = mask[:, ::-1], small[:, ::-1]
    near, far = mask.argmax(axis=1), mask.shape[1] - mask[:, ::-1].argmax(axis=1)
    depth = np.where(mask.any(axis=1), far - near, 0)
    body = np.flatnonzero(depth >= depth.max() / 2)
    near, far = (np.interp(np.arange(ROWS), body, edge[body]) * 2 / ROWS for edge in (near, far))
    middle, half = (body[0] + body[-1] + 1) / ROWS - 1, (body[-1] + 1 - body[0]) / ROWS
    return Breast(mirrored, middle, half / BODY, near, far, small)


def cut_margin(pixels: np.ndarray) -> np.ndarray:
    """Cut off the black columns beside the chest wall, so that the breast lies at the edge, as EMBED's do.

    Args:
        pixels: unsigned integers (H, W).

    Raises:
        UnreadableImage: there is no breast.
    """
    mirrored = find_breast(pixels).mirrored
    lit = np.flatnonzero((pixels > BACKGROUND * np.iinfo(pixels.dtype).max).mean(axis=0) > DARK)
    return pixels[:, : lit[-1] + 1] if mirrored else pixels[:, lit[0] :]


def place_markers(breast: Breast, seed: int, index: int) -> Markers:
    """Draw the markers of an image, whether or not they are present; both lie on the breast, where they can be seen.

    Their numbers are those of drawn mammograms: x is a fraction of the breast's depth, in their row, y one of half its
    height, and sizes are in half heights of the image.

    Args:
        breast: the breast.
        seed: seed of the data set.
        index: index of the image.

    Returns:
        Fields of shape (1,).
    """
    (generator,) = generators = make_generators(seed, torch.tensor([index]), stream=3)
    drawn = draw_uniform(generators, RANGES)
    side = -1 if drawn["swap"].item() < 0 else 1
    fields = swap_markers(drawn)
    for part in ("circle", "triangle"):
        reach = drawn[f"{part}_radius"].item() + STROKE
        depths, heights = (
            [drawn[name].item(), *generator.uniform(*RANGES[name], TRIES)] for name in (f"{part}_x", f"{part}_y")
        )
        places = [_place(breast, x, side * y, reach) for x, y in zip(depths, heights)]
        bright = [_measure(breast, *place, reach) for place in places]
        best = next((i for i, level in enumerate(bright) if level < CLEAR), int(np.argmin(bright)))
        fields |= {
            f"{part}_{axis}": torch.tensor([value], dtype=torch.float32) for axis, value in zip("xy", places[best])
        }
    return Markers(**fields)


def paint(pixels: np.ndarray, breast: Breast, markers: Markers, attributes: Mapping[str, int]) -> np.ndarray:
    """Paint markers onto a mammogram; other pixels keep their levels. White is the image's brightest level.

    Args:
        pixels: unsigned integers (H, W).
        breast: the breast.
        markers: fields of shape (1,).
        attributes: ``circle marker`` and ``triangle marker``, 0 or 1.

    Returns:
        As ``pixels``.
    """
    (height, width), white = pixels.shape, int(pixels.max())
    oriented = pixels[:, ::-1] if breast.mirrored else pixels
    image = torch.from_numpy((oriented / white).astype(np.float32))[None, None]
    x, y = pixel_grid(height, width)
    canvas = Canvas(image, x + width / height, y, 2 / height)
    present = {name: torch.full((1, 1, 1), float(value)) for name, value in attributes.items()}
    paint_markers(canvas, Markers(*(field[:, None, None] for field in markers)), present)
    painted = (image[0, 0].double() * white).round().numpy().astype(pixels.dtype)
    return painted[:, ::-1] if breast.mirrored else painted


def find_box(pixels: np.ndarray, breast: Breast, markers: Markers, name: str) -> Tensor:
    """Return the bounding box of a marker as `marker_box`, int64 (4,)."""
    height, width = pixels.shape
    return marker_box(markers, name, height, width, torch.tensor([breast.mirrored]))[0]


def _place(breast: Breast, depth: float, height: float, reach: float) -> tuple[float, float]:
    """Return x and y of a place on the breast, given as fractions; it keeps ``reach`` from skin and chest wall."""
    y = breast.middle + height * breast.half_height
    row = min(max(int((y + 1) / 2 * ROWS), 0), ROWS - 1)
    near, far = breast.near[row], breast.far[row]
    x = float(np.clip(near + depth * (far - near), near + reach, max(far - reach, near + reach)))
    return x, y


def _measure(breast: Breast, x: float, y: float, reach: float) -> float:
    """Return the mean brightness of the square around a place."""
    top, bottom, left, right = (round(edge * ROWS / 2) for edge in (y + 1 - reach, y + 1 + reach, x - reach, x + reach))
    return float(breast.small[max(top, 0) : max(bottom, 1), max(left, 0) : max(right, 1)].mean())


def _shrink(pixels: np.ndarray) -> np.ndarray:
    """Shrink a mammogram to `ROWS` rows, its brightest level to 1, float (ROWS, W)."""
    height, width = pixels.shape
    if height < ROWS:
        raise UnreadableImage(f"{height} rows: a mammogram needs at least {ROWS}")
    grey = torch.from_numpy((pixels / max(int(pixels.max()), 1)).astype(np.float32))[None, None]
    size = ROWS, max(round(width * ROWS / height), 1)
    return F.interpolate(grey, size, mode="bilinear", antialias=True)[0, 0].numpy()


def _find_mask(small: np.ndarray) -> np.ndarray:
    """Find the breast in a small image, bool of its shape."""
    from scipy import ndimage  # takes as long to import as all of this package

    bright = np.pad(small > TISSUE, THIN, mode="edge")  # the breast goes on beyond the film
    opened = ndimage.binary_opening(bright, iterations=THIN)[THIN:-THIN, THIN:-THIN]
    regions, _ = ndimage.label(opened)
    areas = np.bincount(regions.ravel(), minlength=2)
    areas[0] = 0  # label 0 is the background
    if areas.max() < LEAST * regions.size:
        raise UnreadableImage("no breast is found in it")
    return regions == areas.argmax()
