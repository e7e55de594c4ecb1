"""A folder of images, read one at a time, so that memory does not grow with the folder."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dscm.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
FORMATS = ("PNG", "JPEG", "BMP")
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
GREY = ("1", "L", "LA")
SIXTEEN_BIT = ("I;16", "I;16B", "I")  # Pillow before 10.3 calls a 16-bit grey PNG "I"


class UnreadableImage(Exception):
    """Say in one line why an image cannot be used, without its file name."""


def find_images(folder: Path | str) -> list[Path]:
    """List the PNG, JPEG and BMP files of a folder and its sub-folders, except hidden ones.

    Args:
        folder: the folder.

    Returns:
        Paths relative to ``folder``, sorted.

    Raises:
        InputError: ``folder`` does not exist, is not a folder or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = sorted(path.relative_to(folder) for path in files)
    images = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if not images:
        raise InputError(f"{folder}: no images in it; looked for {', '.join(SUFFIXES)}")
    return images


def read_image(path: Path | str, size: int, channels: int) -> Tensor:
    """Read one image as a square with 8 bits per channel, upright, with transparency over black.

    Args:
        path: a PNG, JPEG or BMP file of mode 1, L, LA, P, RGB, RGBA, CMYK or 16-bit grey.
        size: height and width of the result in pixels; other sizes are resized (bicubic, antialiased).
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (channels, size, size).

    Raises:
        UnreadableImage: the file is empty, truncated, not an image, or of another mode.
    """
    return fit(read_pixels(path), size, channels)


def fit(pixels: np.ndarray, size: int, channels: int) -> Tensor:
    """Convert an image to the size and channels of a model.

    Args:
        pixels: uint8 or uint16, (H, W) or (H, W, 3).
        size: height and width of the result in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (channels, size, size).
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels / 257).round().astype(np.uint8)
    return resize_image(Image.fromarray(pixels).convert({1: "L", 3: "RGB"}[channels]), size)


def read_pixels(path: Path | str) -> np.ndarray:
    """Read one image upright, in its own size and bit depth.

    Args:
        path: a file as for `read_image`.

    Returns:
        uint8, or uint16 for 16-bit grey: (H, W), or (H, W, 3) in colour.

    Raises:
        UnreadableImage: as `read_image`.
    """
    return decode(_open(Path(path)))


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
        return np.asarray(image).astype(np.uint16)
    return np.array(_to_eight_bits(image).convert("L" if image.mode in GREY else "RGB"))


def resize_image(image: Image.Image, size: int) -> Tensor:
    """Resize an image of mode L or RGB to a square (bicubic, antialiased), uint8 (C, size, size)."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).reshape(size, size, -1)
    return pixels.permute(2, 0, 1).contiguous()


def _open(path: Path) -> Image.Image:
    """Decode an image file and apply its EXIF orientation."""
    try:
        if path.stat().st_size == 0:
            raise UnreadableImage("the file is empty (0 bytes)")
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("not a PNG, JPEG or BMP image") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableImage(" ".join(f"cannot be decoded: {error}".split())) from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert any accepted mode of at most 8 bits to RGBA, composited over black."""
    if image.mode == "CMYK":
        image = image.convert("RGB")  # Pillow has no conversion from CMYK to RGBA
    if image.mode in EIGHT_BIT:
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    raise UnreadableImage(f"mode {image.mode} is not one of {', '.join(EIGHT_BIT)} or 16-bit grey")
