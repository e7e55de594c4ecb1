"""Images as Python users have them: files, folders, Pillow images, arrays and tensors, whose ranges are checked."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dscm.data.images import UnreadableImage, decode
from dscm.data.listing import list_images
from dscm.data.sets import DataSet
from dscm.data.survey import survey
from dscm.errors import InputError, option, spell

Picture = Path | str | Image.Image | np.ndarray | Tensor
UNIT = (0.0, 1.0)
SLACK = 1e-4  # of the range, by which rounding may leave it


@dataclass(frozen=True)
class Pictures:
    """Images at a model's size.

    Args:
        names: the names of the images: their paths relative to the folder, file names, or numbers.
        levels: uint8 (N, C, H, W).
        folder: the folder that they were read from; None if they were not.
    """

    names: list[str]
    levels: Tensor
    folder: Path | None = None


def read_pictures(
    pictures: Picture | Sequence[Picture],
    data_set: DataSet,
    shape: tuple[int, int, int],
    value_range: tuple[float, float] = UNIT,
) -> Pictures:
    """Bring images to the form in which a model sees its data set.

    Args:
        pictures: a folder, a file, a Pillow image, an array or tensor, or a list of these other than folders. Arrays
            are (H, W), (H, W, C) or (C, H, W) with 1 or 3 channels, or a batch of these along the first dimension;
            a batch of grey images without a channel is (N, H, W), N other than 3. uint8 is 0 to 255, uint16 is 0
            to 65,535, other integers must lie within 0 to 255, booleans are black and white, and floating point
            numbers must lie within ``value_range``. Whole numbers that make an image all but black are refused: 0 and
            1 are a mask, or were to be floating point numbers, and uint16 up to 257 held 8 bits.
        data_set: the data set whose form they take.
        shape: what the model takes, (C, H, W).
        value_range: black and white of floating point numbers.

    Warns:
        UserWarning: files are passed over, or something happens to images that a user may not expect, as `survey` says.

    Raises:
        InputError: an image cannot be read, or an array has another shape, or values outside its range.
    """
    if isinstance(pictures, str) and not pictures:  # which would be the current folder
        raise InputError("images: the path is empty")
    _check_range(value_range)
    folder, notes = None, list[str]()
    if isinstance(pictures, str | Path) and Path(pictures).is_dir():
        folder = Path(pictures)
        listing = list_images(folder)
        notes = listing.notes
        named: list[tuple[str, Picture]] = [(path.as_posix(), folder / path) for path in listing.images]
    elif isinstance(pictures, str | Path):
        named = [(Path(pictures).name, pictures)]
    else:
        listed = [pictures] if isinstance(pictures, Image.Image) else _unstack(pictures, shape[0])
        named = [(_name(picture, i), picture) for i, picture in enumerate(listed)]
    if not named:
        raise InputError("images: there are none")
    for note in notes + survey([_peekable(picture) for _, picture in named], data_set.framing):
        warnings.warn(spell(note), stacklevel=4)  # where the model is asked
    levels = [_read(name, picture, data_set, shape, value_range) for name, picture in named]
    return Pictures(_distinguish([name for name, _ in named]), torch.stack(levels), folder)


def _unstack(pictures: np.ndarray | Tensor | Sequence[Picture], channels: int) -> Sequence[Picture]:
    """Split an array into its images; a sequence is one already."""
    if not isinstance(pictures, np.ndarray | Tensor):
        listed = [*pictures] if isinstance(pictures, Iterable) else [pictures]
        for picture in listed:
            if not isinstance(picture, Picture):
                raise InputError(
                    f"images: {type(picture).__name__}: must be a path, a Pillow image, an array or a tensor"
                )
        return listed
    if channels == 1 and pictures.ndim == 3 and pictures.shape[0] == 3 and pictures.shape[-1] not in (1, 3):
        forms = "three grey images are (3, 1, H, W), one in colour is (1, 3, H, W) or (H, W, 3)"
        raise InputError(f"images of shape {tuple(pictures.shape)}: {forms}")
    if pictures.ndim < 2:
        raise InputError(f"images of shape {tuple(pictures.shape)}: must be (H, W) at least")
    if pictures.ndim == 3 and pictures.shape[-1] in (2, 4, 5, 6, 7):  # would else be H grey images, as narrow
        forms = "with an alpha channel an image is not (H, W, C) here; drop the last channel: (H, W), (H, W, 1 or 3)"
        raise InputError(f"images of shape {tuple(pictures.shape)}: {forms}")
    single = pictures.ndim == 2 or (pictures.ndim == 3 and {pictures.shape[0], pictures.shape[-1]} & {1, 3})
    return [pictures] if single else [*pictures]


def _peekable(picture: Picture) -> Path | tuple[int, ...] | Image.Image:
    """Return what tells the form of an image before it is read: its file, itself, or its height and width."""
    if isinstance(picture, np.ndarray | Tensor):
        shape = tuple(picture.shape)
        return shape[1:] if len(shape) == 3 and shape[0] in (1, 3) else shape[:2]
    return picture if isinstance(picture, Image.Image) else Path(picture)


def _distinguish(names: list[str]) -> list[str]:
    """Number the names that occur more than once."""
    return [f"{i:05}-{name}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _name(picture: Picture, index: int) -> str:
    """Name an image by its file, or by its number."""
    return Path(picture).name if isinstance(picture, str | Path) else f"{index:05}"


def _read(
    name: str, picture: Picture, data_set: DataSet, shape: tuple[int, int, int], value_range: tuple[float, float]
) -> Tensor:
    """Bring one image to a model's size, uint8 (C, H, W)."""
    try:
        if isinstance(picture, str | Path):
            return data_set.read(Path(picture), shape)
        pixels = decode(picture) if isinstance(picture, Image.Image) else _to_pixels(picture, value_range)
        return data_set.fit(pixels, shape)
    except (UnreadableImage, ValueError) as error:  # the second of a Pillow image that is closed
        raise InputError(f"image {name}: {error}") from error


def _check_range(value_range: tuple[float, float]) -> None:
    """Check that black and white are two finite numbers, black the lower one."""
    try:
        low, high = map(float, value_range)
        right = -np.inf < low < high < np.inf
    except (TypeError, ValueError):
        right = False
    if not right:
        raise InputError(f"{option('value_range')} {value_range}: must be two finite numbers, that of black first")


def _to_pixels(picture: np.ndarray | Tensor, value_range: tuple[float, float]) -> np.ndarray:
    """Turn an array into uint8 or uint16, (H, W) or (H, W, 3)."""
    if isinstance(picture, Tensor):
        if picture.layout != torch.strided or picture.is_quantized or picture.is_meta:
            raise UnreadableImage(
                f"{picture.dtype}, {picture.layout}: must be an ordinary tensor that holds its values"
            )
        picture = picture.detach().cpu()
        picture = (picture.float() if picture.is_floating_point() else picture).numpy()
    pixels = np.asarray(picture)
    if pixels.dtype.kind not in "biuf" or not pixels.size or np.ma.is_masked(picture):
        raise UnreadableImage(
            f"{pixels.dtype} values of shape {pixels.shape}: must be numbers or booleans, none masked"
        )
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] == 3):
        raise UnreadableImage(
            f"shape {tuple(picture.shape)}: must be (H, W), (H, W, C) or (C, H, W) with 1 or 3 channels"
        )
    return _to_levels(pixels, value_range)


def _to_levels(pixels: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Turn values of any dtype into uint8 or uint16, refusing those outside their range."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind in "iu" and 0 < pixels.max() <= (257 if pixels.dtype == np.uint16 else 1):
        forms = "give booleans for a mask, uint8 for 8 bits"
        raise UnreadableImage(f"{pixels.dtype} values up to {pixels.max()}: all but black; {forms}")
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    low, high = value_range if pixels.dtype.kind == "f" else (0, 255)
    smallest, largest = (float(bound) for bound in (pixels.min(), pixels.max()))
    slack = SLACK * (high - low) if pixels.dtype.kind == "f" else 0
    if not low - slack <= smallest <= largest <= high + slack:  # also where one is NaN
        state = f"; state their range with {option('value_range')}" if pixels.dtype.kind == "f" else ""
        raise UnreadableImage(
            f"{pixels.dtype} values from {smallest:g} to {largest:g}: must be {low:g} to {high:g}{state}"
        )
    if pixels.dtype.kind == "f":
        return np.rint((pixels - low).clip(0, high - low) / (high - low) * 255).astype(np.uint8)
    return pixels.astype(np.uint8)
