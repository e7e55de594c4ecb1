"""A mammogram in the form that models see, the breast to the left of a square of 8 bits, and the way back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from dscm.data.images import read_pixels

DARK = 0.02  # of full scale: what is brighter is the breast, or something that lay on the detector


@dataclass(frozen=True)
class Framing:
    """Say how mammograms are brought to a square.

    Args:
        keep_aspect: pad with black on the right or at the bottom, rather than stretch.
        clean_background: black out all but the largest connected region brighter than `DARK`.
    """

    keep_aspect: bool = False
    clean_background: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Framing":
        """Take the framing from the settings that a model was trained with."""
        return cls(settings.get("keep_aspect", False), settings.get("clean_background", False))

    @property
    def name(self) -> str:
        """Name the framing, as in ``padded-clean``."""
        return f"{'padded' if self.keep_aspect else 'stretched'}-{'clean' if self.clean_background else 'whole'}"


def read(path: Path, size: int, framing: Framing = Framing()) -> Tensor:
    """Read a mammogram from a file of any mode that `read_pixels` takes, and `prepare` it.

    Args:
        path: the file.
        size, framing: as `prepare` takes them.

    Returns:
        uint8 (1, size, size).

    Raises:
        UnreadableImage: the file cannot be used.
    """
    return prepare(to_grey(read_pixels(path)), size, framing)


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Turn unsigned integers, (H, W) or (H, W, 3), into float (H, W) in [0, 1]."""
    grey = pixels / np.iinfo(pixels.dtype).max
    return grey.mean(axis=2) if grey.ndim == 3 else grey


def prepare(pixels: np.ndarray, size: int, framing: Framing = Framing()) -> Tensor:
    """Bring a mammogram to the form that models see.

    Args:
        pixels: float (H, W) in [0, 1].
        size: height and width wanted, in pixels; resized by bicubic interpolation, antialiased.
        framing: how.

    Returns:
        uint8 (1, size, size).
    """
    pixels = clean(pixels) if framing.clean_background else pixels
    return (lay(pixels, pixels, size, framing).clamp(0, 1) * 255).round().to(torch.uint8)


def lay(layer: np.ndarray, pixels: np.ndarray, size: int, framing: Framing) -> Tensor:
    """Mirror, pad and resize something of each pixel of a mammogram the way the mammogram is.

    Args:
        layer: float (H, W), the mammogram itself or another layer over it.
        pixels: the mammogram, cleaned if it is to be, float (H, W) in [0, 1].
        size, framing: as in `prepare`.

    Returns:
        float32 (1, size, size).
    """
    height, width = pixels.shape
    if lies_right(pixels):
        layer = layer[:, ::-1]
    if framing.keep_aspect:
        side = max(height, width)
        layer = np.pad(layer, ((0, side - height), (0, side - width)))
    x = torch.from_numpy(np.ascontiguousarray(layer, np.float32))[None, None]
    return F.interpolate(x, (size, size), mode="bicubic", antialias=True)[0]


def place_back(square: Tensor, pixels: np.ndarray, framing: Framing = Framing()) -> Tensor:
    """Lay a model's square over the mammogram that it came from.

    Args:
        square: float (C, size, size), such as an image that `prepare` made, or something of each of its pixels.
        pixels: the mammogram, float (H, W) in [0, 1].
        framing: how the mammogram was prepared.

    Returns:
        float (C, H, W).
    """
    pixels = clean(pixels) if framing.clean_background else pixels
    height, width = pixels.shape
    side = max(height, width)
    shape = (side, side) if framing.keep_aspect else (height, width)
    x = F.interpolate(square[None], shape, mode="bicubic", antialias=True)[0, :, :height, :width]
    return x.flip(-1) if lies_right(pixels) else x


def clean(pixels: np.ndarray) -> np.ndarray:
    """Black out all but the largest connected region brighter than `DARK`."""
    regions, _ = ndimage.label(pixels > DARK)
    areas = np.bincount(regions.ravel())
    areas[0] = 0  # the background
    return np.where(regions == areas.argmax(), pixels, 0)


def lies_right(pixels: np.ndarray) -> bool:
    """Tell whether the right half is the brighter one."""
    half = (pixels.shape[1] + 1) // 2
    return bool(pixels[:, -half:].sum() > pixels[:, :half].sum())
