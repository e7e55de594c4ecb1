"""An image file as it is, for a change to be blended into: full depth, transparency, and what describes its pixels."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, ImageOps

from dscm.data.images import GREY, SIXTEEN_BIT, decode, list_formats, open_image
from dscm.data.png import encode_png

KEPT = ("icc_profile", "srgb", "gamma", "chromaticity", "dpi", "exif")  # as Pillow names them
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # of big, little and native
LARGEST = {"dpi": 5e7, "gamma": 2e4, "chromaticity": 2e4}  # that fit the fields of a PNG file
SPACES = {1: b"GRAY", 3: b"RGB "}  # of a colour profile, by the number of channels that are colours


@dataclass(frozen=True)
class Original:
    """An image file.

    Args:
        pixels: its colours, uint8 or uint16, (H, W) or (H, W, 3).
        alpha: its opacity in the same dtype, (H, W); None where all of it is opaque.
        info: what describes the pixels: those of `KEPT` that it has.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    info: Mapping[str, Any]

    @property
    def opacity(self) -> np.ndarray:
        """Return its opacity on [0, 1], (H, W)."""
        if self.alpha is None:
            return np.ones(self.pixels.shape[:2])
        return self.alpha / np.iinfo(self.alpha.dtype).max

    def over_black(self) -> np.ndarray:
        """Return its colours over black, as a model sees them, in the shape and dtype of ``pixels``."""
        if self.alpha is None:
            return self.pixels
        opacity = self.opacity if self.pixels.ndim == 2 else self.opacity[..., None]
        return np.rint(self.pixels * opacity).astype(self.pixels.dtype)

    def write(self, path: Path, pixels: np.ndarray) -> None:
        """Write other pixels with the transparency and the description of this image, as a PNG file.

        Args:
            path: the file.
            pixels: in the dtype of ``pixels``, (H, W) or (H, W, 3).
        """
        layers = pixels if pixels.ndim == 3 else pixels[..., None]
        info = dict(self.info)
        if not _suits(info.get("icc_profile"), layers.shape[-1]):
            del info["icc_profile"]
        path.write_bytes(encode_png(layers if self.alpha is None else np.dstack([layers, self.alpha]), info))


def read_original(path: Path) -> Original:
    """Read an image file upright, in its own size, depth and transparency.

    Raises:
        UnreadableImage: as `open_image` and `decode`.
    """
    image = open_image(path)
    with Image.open(path, formats=list_formats(path)) as header:
        layers = _to_layers(image)
        if _keeps_depth(header):
            layers = layers.astype(np.uint16) << 8 | _read_low_bytes(header)
    channels = layers.shape[-1]
    pixels = layers[..., 0] if channels < 3 else layers[..., :3]
    info = {name: value for name, value in image.info.items() if name in KEPT and _is_sound(name, value)}
    return Original(pixels, layers[..., -1] if channels in (2, 4) else None, info)


def find_losses(header: Image.Image, channels: int) -> Iterator[str]:
    """Yield in words what an image loses that is read by `read_original` and written again.

    Args:
        header: the opened image; it is not decoded.
        channels: of the model, whose answers in colour make grey images coloured.
    """
    if header.mode in ("CMYK", "YCbCr"):
        yield f"{header.mode} becomes RGB"
    if _is_deep(header) and not _keeps_depth(header):
        yield "16 bits a channel become 8"
    if header.mode in SIXTEEN_BIT and "transparency" in header.info:
        yield "the transparent grey becomes opaque"
    if not _suits(header.info.get("icc_profile"), 1 if header.mode in GREY + SIXTEEN_BIT and channels == 1 else 3):
        yield "the colour profile is of other colours than are written, and is left out"


def _is_deep(header: Image.Image) -> bool:
    """Tell of an image that is not decoded yet whether it has 16 bits a channel, of which Pillow reads 8."""
    return header.mode not in SIXTEEN_BIT and ";16" in str(cast(Any, header).tile)


def _keeps_depth(header: Image.Image) -> bool:
    """Tell likewise whether `_read_low_bytes` reads the other 8."""
    plain = header.mode in ("RGB", "RGBA") and "transparency" not in header.info
    return plain and f"'{header.mode};16" in str(cast(Any, header).tile)


def _read_low_bytes(header: Image.Image) -> np.ndarray:
    """Read the lower byte of each channel, (H, W, C), of an image that is not decoded yet.

    Of two bytes Pillow keeps the higher one. Told that they come in the other order, it keeps the lower one.
    """
    image = cast(Any, header)
    make = getattr(type(image.tile[0]), "_make", tuple)  # a tuple until Pillow 11, and then a named one
    image.tile = [make([*tile[:-1], _swap(tile[-1])]) for tile in image.tile]
    image.load()
    return np.array(ImageOps.exif_transpose(header))


def _swap(arguments: Any) -> Any:
    """Exchange the order of bytes in the name of a raw mode, which a decoder takes alone or before others."""
    if isinstance(arguments, str):
        return f"{arguments[:-1]}{OTHER_ORDER[arguments[-1]]}"
    return (_swap(arguments[0]), *arguments[1:])


def _to_layers(image: Image.Image) -> np.ndarray:
    """Convert a decoded image to its channels, and its opacity if it has one: (H, W, C)."""
    if image.mode in SIXTEEN_BIT or not image.has_transparency_data:
        return np.atleast_3d(decode(image))
    layers = np.array(image.convert("RGBA"))
    return layers[..., [0, 3]] if image.mode in GREY else layers


def _is_sound(name: str, value: Any) -> bool:
    """Tell whether a description can be written; files hold odd numbers."""
    if name in ("dpi", "gamma", "chromaticity"):
        numbers = np.array([float(number) for number in np.atleast_1d(np.array(value, dtype=object))])
        return bool(((numbers > 0) & (numbers < LARGEST[name])).all())
    return value is not None


def _suits(profile: bytes | None, colours: int) -> bool:
    """Tell whether a colour profile is one of so many colours, 1 or 3; none is."""
    return profile is None or profile[16:20] == SPACES[colours]
