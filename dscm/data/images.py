"""A folder of images and the table of their attributes.

Images are read one at a time, so memory does not grow with the folder.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dscm.causal.variables import Variable
from dscm.data.table import Row, read_csv, read_integers, read_labels, read_numbers, write_csv
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


def read_attributes(
    path: Path,
    images: Sequence[str],
    names: Sequence[str],
    integer: Collection[str] = (),
    labels: Mapping[str, Sequence[str]] = {},
) -> dict[str, Tensor]:
    """Read columns of the attribute table of a folder's images.

    Args:
        path: a CSV file whose first column, ``image``, holds paths relative to the folder with ``/`` as separator.
        images: the images of the folder, written the same way.
        names: the columns to read; others are ignored.
        integer: the columns that must hold whole numbers.
        labels: the class labels of each column that holds labels.

    Returns:
        Each column in the order of ``images``: float32 (N,), or int64 (N,) for whole numbers and class indices.

    Raises:
        InputError: a column is missing, an image has no row or two, a row's image is not in the folder, or a cell
            is not a finite number or not a label.
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
        elif name in integer:
            result[name] = torch.tensor(read_integers(path, ordered, name), dtype=torch.int64)
        else:
            result[name] = torch.tensor(read_numbers(path, ordered, name), dtype=torch.float32)
    return result


def read_attribute_table(path: Path, images: Sequence[str], variables: Sequence[Variable]) -> dict[str, Tensor]:
    """Read the attribute table of a folder's images and check each value against its variable's domain.

    Args:
        path: the file, as for `read_attributes`.
        images: the images of the folder; the table must have one row for each and no others.
        variables: the columns to read; the cells of a categorical variable hold its labels.

    Returns:
        Each variable in the order of ``images``: float32 (N,) if real or circular, otherwise int64 (N,).

    Raises:
        InputError: as for `read_attributes`, or a value is outside its domain.
    """
    integer = [variable.name for variable in variables if variable.kind == "binary"]
    labels = {variable.name: variable.labels for variable in variables if variable.kind == "categorical"}
    values = read_attributes(path, images, [variable.name for variable in variables], integer, labels)
    for variable in variables:
        for image, value in zip(images, values[variable.name].tolist()):
            if variable.kind != "circular" and not variable.contains(value):
                raise InputError(f"{path}: {variable.name} of {image} is {value:g}; allowed: {variable.domain}")
    return values


def write_attributes(path: Path, images: Sequence[str], data: Mapping[str, Tensor]) -> None:
    """Write an attribute table that `read_attributes` reads back exactly.

    Args:
        path: the file, written atomically.
        images: paths relative to the folder, with ``/`` as separator.
        data: the columns, each (N,).

    Raises:
        ValueError: the length of a column is not the number of images.
    """
    write_csv(path, {"image": images, **{name: values.tolist() for name, values in data.items()}})


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


def _match_rows(path: Path, rows: Sequence[Row], images: Sequence[str]) -> list[Row]:
    """Return the row of each image in the order of the images; each must have exactly one."""
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
