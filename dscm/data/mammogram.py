"""Mammograms as models see them, an 8-bit square with the breast on the left, and the inverse transform."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.data.framing import STRETCHED, Framing, Window
from dscm.data.images import read_pixels

BACKGROUND = 0.02  # fraction of full scale; brighter pixels show the breast or an object on the detector


def read(path: Path, size: int, framing: Framing = STRETCHED) -> Tensor:
    """Read a mammogram and `prepare` it.

    Args:
        path: a file as for `read_pixels`.
        size: height and width of the result in pixels.
        framing: how it becomes a square.

    Returns:
        uint8 (1, size, size).

    Raises:
        UnreadableImage: the file cannot be used.
    """
    return prepare(to_grey(read_pixels(path)), size, framing)


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Convert unsigned integers (H, W) or (H, W, 3) to float (H, W) in [0, 1]."""
    grey = pixels / np.iinfo(pixels.dtype).max
    return grey.mean(axis=2) if grey.ndim == 3 else grey


def prepare(pixels: np.ndarray, size: int, framing: Framing = STRETCHED) -> Tensor:
    """Transform a mammogram to the square that models see.

    Args:
        pixels: float (H, W) in [0, 1].
        size: height and width of the result in pixels; resized by bicubic interpolation, antialiased.
        framing: how it becomes a square.

    Returns:
        uint8 (1, size, size).
    """
    pixels = clean(pixels, framing)
    return (transform(pixels, pixels, size, framing).clamp(0, 1) * 255).round().to(torch.uint8)


def transform(layer: np.ndarray, pixels: np.ndarray, size: int, framing: Framing) -> Tensor:
    """Transform a layer over a mammogram, such as a mask, to the square that models see.

    Args:
        layer: float (H, W).
        pixels: the mammogram after `clean`, float (H, W) in [0, 1].
        size: height and width of the result in pixels.
        framing: how the mammogram becomes a square.

    Returns:
        float32 (1, size, size).
    """
    if _lies_right(pixels):
        layer = layer[:, ::-1]
    x = _find_window(pixels, framing).cut(torch.from_numpy(np.ascontiguousarray(layer, np.float32))[None])
    return F.interpolate(x[None], (size, size), mode="bicubic", antialias=True)[0]


def place_back(square: Tensor, pixels: np.ndarray, framing: Framing = STRETCHED) -> Tensor:
    """Transform a square back to the frame of its mammogram, the inverse of `transform`.

    Args:
        square: float (C, size, size), an image or a layer over it.
        pixels: the mammogram, float (H, W) in [0, 1].
        framing: how the mammogram became a square.

    Returns:
        float (C, H, W).
    """
    pixels = clean(pixels, framing)
    x = _find_window(pixels, framing).place(square, *pixels.shape)
    return x.flip(-1) if _lies_right(pixels) else x


def clean(pixels: np.ndarray, framing: Framing) -> np.ndarray:
    """Black out the background of a mammogram, float (H, W) in [0, 1], if the framing says so."""
    from scipy import ndimage  # takes as long to import as all of this package

    if not framing.clean_background:
        return pixels
    regions, _ = ndimage.label(pixels > BACKGROUND)
    areas = np.bincount(regions.ravel())
    areas[0] = 0  # label 0 is the background
    return np.where(regions == areas.argmax(), pixels, 0)


def _find_window(pixels: np.ndarray, framing: Framing) -> Window:
    """Find the window of a mammogram (H, W) whose breast lies left: padded at right and bottom, cropped around it."""
    height, width = pixels.shape
    return framing.window(height, width, (0.5 if framing.fit == "crop" else 0, 0))


def _lies_right(pixels: np.ndarray) -> bool:
    """Tell whether the breast is on the right, in the brighter half."""
    half = (pixels.shape[1] + 1) // 2
    return bool(pixels[:, -half:].sum() > pixels[:, :half].sum())
