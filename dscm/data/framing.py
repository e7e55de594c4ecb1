"""How an image of any shape becomes the square that a model sees, and how a square finds its way back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from dscm.errors import UnreadableImage

Fit = Literal["stretch", "crop", "pad"]
LARGEST = 2**28  # pixels of a padded square; a thin strip would else take all memory
MIDDLE = (0.5, 0.5)


@dataclass(frozen=True)
class Window:
    """The rectangle of an image that becomes the square; it may reach beyond the image, where all is black.

    Args:
        top, left: the position of its corner in the image, in pixels; negative outside of it.
        height, width: its size in pixels.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom, as Pillow takes them."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def cut(self, layer: Tensor) -> Tensor:
        """Cut the window out of an image or a layer over it, (C, H, W) to (C, height, width)."""
        height, width = layer.shape[-2:]
        left, top, right, bottom = self.box
        return F.pad(layer, (-left, right - width, -top, bottom - height))

    def place(self, square: Tensor, height: int, width: int) -> Tensor:
        """Resize what was cut back to the window, and place it into the frame of the image; the rest is 0.

        Args:
            square: float (C, h, w).
            height, width: the size of the image.

        Returns:
            float (C, height, width).
        """
        layer = F.interpolate(square[None], (self.height, self.width), mode="bicubic", antialias=True)[0]
        return Window(-self.top, -self.left, height, width).cut(layer)


@dataclass(frozen=True)
class Framing:
    """Choose how images become squares.

    Args:
        fit: ``stretch`` changes the aspect; ``crop`` keeps it and cuts off what is too long; ``pad`` adds black.
        clean_background: of mammograms, whether to black out all but the largest connected bright region.
        anchor: where the square lies in a cropped image: vertically and horizontally, from 0, at the top or left, to 1.
    """

    fit: Fit = "stretch"
    clean_background: bool = False
    anchor: tuple[float, float] = MIDDLE

    @classmethod
    def of(cls, settings: Mapping[str, Any], data_set: str) -> "Framing":
        """Return the framing in a model's training settings.

        Args:
            settings: the settings. Those of earlier versions have ``keep_aspect`` instead of ``fit``; it and
                ``clean_background`` were ignored unless mammograms were read.
            data_set: the name of the data set.
        """
        if "fit" not in settings and data_set != "embed":
            return cls()
        padded: Fit = "pad" if settings.get("keep_aspect") else "stretch"
        return cls(settings.get("fit", padded), settings.get("clean_background", False))

    @property
    def name(self) -> str:
        """Name the framing, as in ``padded-clean``."""
        words = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}
        return f"{words[self.fit]}-{'clean' if self.clean_background else 'whole'}"

    @property
    def suffix(self) -> str:
        """Name the framing for a file; empty for the usual one, whose files were always named without it."""
        return "" if self == STRETCHED else f"-{self.name}"

    def window(self, height: int, width: int, anchor: tuple[float, float] | None = None) -> Window:
        """Find the window of an image.

        Args:
            height, width: the size of the image in pixels.
            anchor: where the image lies in a padded square, and the square in a cropped image, as the framing's; None
                is the middle of a padded square, and the framing's own anchor in a cropped image.

        Raises:
            UnreadableImage: the padded square would be too large.
        """
        if self.fit == "stretch":
            return Window(0, 0, height, width)
        side = max(height, width) if self.fit == "pad" else min(height, width)
        if side**2 > LARGEST:
            raise UnreadableImage(f"{width}×{height} pixels are too many to pad to a square")
        anchor = anchor or (self.anchor if self.fit == "crop" else MIDDLE)
        top, left = (math.floor((length - side) * share) for length, share in zip((height, width), anchor))
        return Window(top, left, side, side)


STRETCHED = Framing()
