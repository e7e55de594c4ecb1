"""Images, read one at a time, so that memory does not grow with their number."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dscm.data.framing import STRETCHED, Framing
from dscm.errors import UnreadableImage

Image.init()  # Pillow's registry of formats
PHOTOGRAPHS = ("PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "QOI")
UNSIGNED = ("DIB", "TGA", "PCX", "SGI")  # whose content does not tell what it is: only the suffix does
FORMATS = tuple(name for name in PHOTOGRAPHS if name in Image.OPEN)
SUFFIXES = {
    suffix: name for suffix, name in Image.registered_extensions().items() if name in PHOTOGRAPHS + UNSIGNED
}  # as far as this Pillow was built with them
COLOUR = ("CMYK", "YCbCr", "RGBX")  # which Pillow does not convert to RGBA but to RGB
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", *COLOUR)
GREY = ("1", "L", "LA")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow before 10.3 calls a 16-bit grey PNG "I"


def read_image(path: Path | str, size: int, channels: int, framing: Framing = STRETCHED) -> Tensor:
    """Read one image as a square with 8 bits per channel, upright, with transparency over black.

    Args:
        path: a file of one of the `FORMATS` and of mode 1, L, LA, P, RGB, RGBA, CMYK, YCbCr or 16-bit grey; of several
            frames the first is read.
        size: height and width of the result in pixels; other sizes are resized (bicubic, antialiased).
        channels: 1 for grey, 3 for RGB.
        framing: how it becomes a square.

    Returns:
        uint8 (channels, size, size).

    Raises:
        UnreadableImage: the file is empty, truncated, not an image, or of another mode.
    """
    return fit(read_pixels(path), size, channels, framing)


def fit(pixels: np.ndarray, size: int, channels: int, framing: Framing = STRETCHED) -> Tensor:
    """Convert an image to the size and channels of a model.

    Args:
        pixels: uint8 or uint16, (H, W) or (H, W, 3).
        size: height and width of the result in pixels.
        channels: 1 for grey, 3 for RGB.
        framing: how the image becomes a square.

    Returns:
        uint8 (channels, size, size).

    Raises:
        UnreadableImage: the image is too long to pad.
    """
    window = framing.window(*pixels.shape[:2])
    if pixels.dtype == np.uint16:
        pixels = (pixels / 257).round().astype(np.uint8)
    return resize_image(Image.fromarray(pixels).convert({1: "L", 3: "RGB"}[channels]).crop(window.box), size)


def read_pixels(path: Path | str) -> np.ndarray:
    """Read one image upright, in its own size and bit depth.

    Args:
        path: a file as for `read_image`.

    Returns:
        uint8, or uint16 for 16-bit grey: (H, W), or (H, W, 3) in colour.

    Raises:
        UnreadableImage: as `read_image`.
    """
    return decode(open_image(path))


def decode(image: Image.Image) -> np.ndarray:
    """Convert a PIL image of any accepted mode to an array.

    Args:
        image: an image of a mode that `read_image` accepts.

    Returns:
        An array as from `read_pixels`.

    Raises:
        UnreadableImage: the image has another mode.
    """
    if image.mode in SIXTEEN_BIT:
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > np.iinfo(np.uint16).max:
            raise UnreadableImage(
                f"mode {image.mode} with levels from {levels.min()} to {levels.max()}: not 16-bit grey"
            )
        if 0 < levels.max() <= np.iinfo(np.uint8).max:
            raise UnreadableImage(f"16 bits, but no level above {levels.max()}: all but black; save it with 8 bits")
        return levels.astype(np.uint16)
    return np.array(_to_eight_bits(image).convert("L" if image.mode in GREY else "RGB"))


def resize_image(image: Image.Image, size: int) -> Tensor:
    """Resize an image of mode L or RGB to a square (bicubic, antialiased), uint8 (C, size, size)."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).reshape(size, size, -1)
    return pixels.permute(2, 0, 1).contiguous()


def open_image(path: Path | str) -> Image.Image:
    """Decode the first frame of an image file and apply its EXIF orientation.

    Raises:
        UnreadableImage: the file is empty, truncated, or not an image.
    """
    try:
        if Path(path).stat().st_size == 0:
            raise UnreadableImage("the file is empty (0 bytes)")
        with Image.open(path, formats=list_formats(path)) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("not a PNG, JPEG or other image") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableImage(" ".join(f"cannot be decoded: {error}".split())) from error


def list_formats(path: Path | str) -> list[str]:
    """List the formats that an image file may have, whatever its suffix says, and that of its suffix."""
    named = SUFFIXES.get(Path(path).suffix.lower(), "")
    return [*FORMATS, *([named] if named in UNSIGNED else [])]


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert any accepted mode of at most 8 bits to one without transparency, composited over black."""
    if image.mode in COLOUR:
        image = image.convert("RGB")
    if image.mode in EIGHT_BIT and not image.has_transparency_data:
        return image
    if image.mode in EIGHT_BIT:
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    raise UnreadableImage(f"mode {image.mode} is not one of {', '.join(EIGHT_BIT)} or 16-bit grey")
