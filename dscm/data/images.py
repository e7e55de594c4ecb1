"""A folder of images to answer counterfactual queries about, and the attributes.csv beside them.

Images are read one at a time, so memory doesn't grow with the folder.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dscm.data.table import Row, read_column, read_csv, read_labels, write_csv
from dscm.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
FORMATS = ("PNG", "JPEG", "BMP")
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
GREY = ("1", "L", "LA")
SIXTEEN_BIT = ("I;16", "I;16B", "I")  # Pillow before 10.3 calls a 16-bit grey PNG "I"


class UnreadableImage(Exception):
    """Say in one line why an image can't be used; the message doesn't repeat the file's name."""


def find_images(folder: Path | str) -> list[Path]:
    """List the PNG, JPEG and BMP files of a folder and its sub-folders, without hidden ones.

    Args:
        folder: the folder.

    Returns:
        Paths relative to ``folder``, sorted.

    Raises:
        InputError: ``folder`` doesn't exist, isn't a folder or has no images.
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
    """Read one image as 8 bits a channel, upright, over black where it is transparent, and resized.

    Args:
        path: a PNG, JPEG or BMP file of mode 1, L, LA, P, RGB, RGBA, CMYK or 16-bit grey.
        size: height and width wanted, in pixels; another size is resized (bicubic, antialiased).
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (channels, size, size).

    Raises:
        UnreadableImage: the file is empty, truncated, not an image, or of another mode.
    """
    return fit(read_pixels(path), size, channels)


def fit(pixels: np.ndarray, size: int, channels: int) -> Tensor:
    """Bring an image to a model's size and channels.

    Args:
        pixels: uint8 or uint16, (H, W) or (H, W, 3).
        size, channels: as in `read_image`.

    Returns:
        uint8 (channels, size, size).
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels / 257).round().astype(np.uint8)
    return resize_image(Image.fromarray(pixels).convert({1: "L", 3: "RGB"}[channels]), size)


def read_pixels(path: Path | str) -> np.ndarray:
    """Read one image whole, upright, and in the depth of its file.

    Args:
        path: as `read_image` takes it.

    Returns:
        uint8, or uint16 if the file is of 16-bit grey: (H, W), or (H, W, 3) if it is in colour.

    Raises:
        UnreadableImage: as `read_image`.
    """
    return decode(_open(Path(path)))


def decode(image: Image.Image) -> np.ndarray:
    """Turn a picture of any accepted mode into pixels, as `read_pixels`.

    Raises:
        UnreadableImage: it is of another mode.
    """
    if image.mode in SIXTEEN_BIT:
        return np.asarray(image).astype(np.uint16)
    return np.array(_to_eight_bits(image).convert("L" if image.mode in GREY else "RGB"))


def resize_image(image: Image.Image, size: int) -> Tensor:
    """Bring a picture of mode L or RGB to a square (bicubic, antialiased), as uint8 (C, size, size)."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).reshape(size, size, -1)
    return pixels.permute(2, 0, 1).contiguous()


def read_attributes(
    path: Path,
    images: Sequence[str],
    names: Sequence[str],
    integer: Collection[str] = (),
    labels: Mapping[str, Sequence[str]] = {},
) -> dict[str, Tensor]:
    """Read the attributes of a folder's images from a CSV file, and refuse anything doubtful.

    Args:
        path: the file; its first column is ``image``, a path relative to the folder with ``/`` between parts.
        images: the images of the folder, written the same way.
        names: the columns wanted; others are ignored.
        integer: those of ``names`` that must be whole numbers.
        labels: of those that hold labels, the labels, which are read as their places.

    Returns:
        Each name's values in the order of ``images``: float32 (N,), or int64 (N,) for whole numbers and labels.

    Raises:
        InputError: a column is missing, an image has no row or two, a row's image isn't in the folder, or a
            cell isn't a finite number, or no label.
    """
    columns, rows = read_csv(path)
    if columns[0] != "image":
        raise InputError(f"{path}: the first column must be 'image', not {columns[0]!r}")
    for name in names:
        if name not in columns:
            raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(columns)}")
    ordered = _match_rows(path, rows, images)
    result = {}
    for name in names:
        if name in labels:
            result[name] = torch.tensor(read_labels(path, ordered, name, labels[name]), dtype=torch.int64)
        else:
            dtype = torch.int64 if name in integer else torch.float32
            result[name] = torch.tensor(read_column(path, ordered, name, whole=name in integer), dtype=dtype)
    return result


def write_attributes(path: Path, images: Sequence[str], data: Mapping[str, Tensor]) -> None:
    """Write an attributes.csv that `read_attributes` reads back exactly.

    Args:
        path: the file; it is written whole or not at all.
        images: paths relative to the folder, with ``/`` between parts.
        data: the columns, each (N,).

    Raises:
        ValueError: a column's length isn't the number of images.
    """
    write_csv(path, {"image": images, **{name: values.tolist() for name, values in data.items()}})


def _open(path: Path) -> Image.Image:
    """Decode an image and turn it the way its EXIF orientation says."""
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
    except Exception as error:  # on a damaged file Pillow's decoders raise nearly anything
        raise UnreadableImage(" ".join(f"cannot be decoded: {error}".split())) from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Bring every accepted mode of 8 bits or fewer to RGBA over black."""
    if image.mode == "CMYK":
        image = image.convert("RGB")  # Pillow converts it to no mode with transparency
    if image.mode in EIGHT_BIT:
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    raise UnreadableImage(f"mode {image.mode} is not one of {', '.join(EIGHT_BIT)} or 16-bit grey")


def _match_rows(path: Path, rows: Sequence[Row], images: Sequence[str]) -> list[Row]:
    """Return the one row of each image, in the order of the images."""
    by_image: dict[str, Row] = {}
    for row in rows:
        first = by_image.setdefault(row.cells["image"], row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: {row.cells['image']!r} is already on line {first.line}")
    known = set(images)
    extra = [row for name, row in by_image.items() if name not in known]
    if extra:
        raise InputError(
            f"{path}, line {extra[0].line}: {extra[0].cells['image']!r} is not an image of the folder "
            f"({len(extra)} such rows)"
        )
    missing = [name for name in images if name not in by_image]
    if missing:
        raise InputError(f"{path}: no row for {missing[0]!r} ({len(missing)} of {len(images)} images have none)")
    return [by_image[name] for name in images]
