"""Images as Python users have them: every form and every range, and none guessed in silence."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dscm.data.framing import Framing
from dscm.data.pictures import read_pictures
from dscm.data.sets import Source, get_data_set
from dscm.errors import InputError
from dscm.graphs import get_graph

COLOUR = np.random.default_rng(0).integers(256, size=(6, 8, 8, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
DATA_SET = get_data_set(get_graph("celebahq"), Source())


def read(pictures: Any, channels: int = 3, **options: Any) -> np.ndarray:
    """Read images of 8×8 pixels, and return them as (N, 8, 8, channels)."""
    return read_pictures(pictures, DATA_SET, (channels, 8, 8), **options).levels.permute(0, 2, 3, 1).numpy()


FORMS = {
    "uint8 HWC": lambda x: x,
    "uint8 CHW": lambda x: np.moveaxis(x, -1, -3),
    "tensor": lambda x: torch.from_numpy(x),
    "tensor CHW": lambda x: torch.from_numpy(np.moveaxis(x, -1, -3).copy()),
    "float32": lambda x: (x / 255).astype(np.float32),
    "float64": lambda x: x / 255,
    "float16": lambda x: (x / 255).astype(np.float16),
    "bfloat16": lambda x: (torch.from_numpy(x) / 255).float(),
    "int64": lambda x: x.astype(np.int64),
    "int32 tensor": lambda x: torch.from_numpy(x).int(),
    "uint16": lambda x: x.astype(np.uint16) * 257,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_arrays_of_every_dtype_are_the_same_images(form: Any) -> None:
    """One at a time, in a batch, and in a list."""
    assert np.array_equal(read(form(COLOUR)), COLOUR)
    assert np.array_equal(read(form(COLOUR[0])), COLOUR[:1])
    assert np.array_equal(read([form(x) for x in COLOUR]), COLOUR)


def test_signed_floats_take_their_range() -> None:
    assert np.array_equal(read(COLOUR / 127.5 - 1, value_range=(-1.0, 1.0)), COLOUR)
    assert np.array_equal(read(COLOUR.astype(np.float32), value_range=(0.0, 255.0)), COLOUR)


def test_grey_arrays_need_no_channel() -> None:
    expected = GREY[..., None].repeat(3, axis=-1)
    for pictures in (GREY, GREY[:, None], GREY[..., None], [*GREY], torch.from_numpy(GREY)):
        assert np.array_equal(read(pictures), expected)
    assert (
        np.array_equal(read(GREY[0]), expected[:1]) and read(GREY > 100).tolist() == read((GREY > 100) * 255).tolist()
    )


def test_files_folders_and_pillow_images(tmp_path: Path) -> None:
    """All are named: by their paths, by their files, or by their numbers."""
    (tmp_path / "sub").mkdir()
    paths = [tmp_path / "a.png", tmp_path / "sub" / "a.png"]
    for path, pixels in zip(paths, COLOUR):
        Image.fromarray(pixels).save(path)
    images = [Image.open(path) for path in paths]
    for pictures in (tmp_path, str(tmp_path), paths, [*map(str, paths)], images):
        assert np.array_equal(read(pictures), COLOUR[:2])
    for pictures in (paths[0], str(paths[0]), images[0]):
        assert np.array_equal(read(pictures), COLOUR[:1])
    names = [read_pictures(x, DATA_SET, (3, 8, 8)).names for x in (tmp_path, paths[1], paths, images)]
    assert names == [["a.png", "sub/a.png"], ["a.png"], ["00000-a.png", "00001-a.png"], ["00000", "00001"]]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (
            COLOUR / 127.5 - 1,
            "float64 values from -.*: must be 0 to 1; state their range with value_range",
        ),
        (COLOUR.astype(float), "image 00000: float64 values from .* to .*: must be 0 to 1; state their range"),
        (np.full((8, 8), np.nan), "image 00000: float64 values from nan to nan: must be 0 to 1"),
        ([GREY[0], np.full((8, 8), np.inf)], "image 00001: float64 values from inf to inf"),
        (COLOUR.astype(int) - 300, "image 00000: int64 values from -.*: must be 0 to 255$"),
        (np.zeros((2, 8, 8, 5), np.uint8), r"image 00000: shape \(8, 8, 5\): must be \(H, W\)"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\): .* alpha channel .* drop the last"),
        (np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\): .* alpha channel .* drop the last"),
        ([], "images: there are none"),
        (None, "images: NoneType: must be a path, a Pillow image, an array or a tensor"),
        ([[0.0, 1.0], [1.0, 0.0]], "images: list: must be a path"),
        ({"a.png": COLOUR[0]}.values, "images: .*method: must be a path"),
        ((GREY[0] > 100).astype(np.uint8), "image 00000: uint8 values up to 1: all but black; give booleans"),
        ((GREY[0] > 100).astype(int), "image 00000: int64 values up to 1: all but black; give booleans"),
        (GREY[0] * 1j, "image 00000: complex128 values of shape .*: must be numbers or booleans"),
        (GREY[0].astype(object), "image 00000: object values"),
        (torch.zeros(3, 0, 8), r"image 00000: float32 values of shape .3, 0, 8.: must be numbers or booleans"),
        (torch.zeros(8), r"images of shape \(8,\): must be \(H, W\) at least"),
        (np.zeros((8, 8, 5), np.uint8), r"shape \(8, 8, 5\): .* alpha channel .* drop the last"),
        (GREY[0].astype(np.uint16), "image 00000: uint16 values up to .*: all but black; .* uint8 for 8 bits"),
        (np.ma.masked_greater(GREY[0], 9), "image 00000: uint8 values .*, none masked"),
        (torch.eye(8).to_sparse(), "image 00000: torch.float32, torch.sparse_coo: must be an ordinary tensor"),
        ("", "images: the path is empty"),
        (np.full((8, 8), 300, np.int32), "image 00000: int32 values from 300 to 300: must be 0 to 255"),
    ],
)
def test_refused(pictures: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(pictures)


@pytest.mark.parametrize(
    "value_range", [(1.0, 0.0), (0.0, 0.0), (0.0, float("nan")), (0.0, float("inf")), 255, "ab", None]
)
def test_ranges_refused(value_range: Any) -> None:
    with pytest.raises(InputError, match="value_range .*: must be two finite numbers, that of black first"):
        read(COLOUR / 255, value_range=value_range)


def test_what_happens_to_pictures_is_warned_of(tmp_path: Path) -> None:
    """Once, with a count, and in the words of Python; not where the fit keeps the aspect."""
    Image.new("RGBA", (8, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.heic").touch()
    with pytest.warns(UserWarning) as caught:
        read(tmp_path)
    said = [str(warning.message) for warning in caught]
    assert said[0].endswith("passed over: 1 .heic") and len(said) == 3
    assert said[1].endswith("not square and stretched to a square; fit=crop or fit=pad keeps the aspect")
    with pytest.warns(UserWarning, match="^1 of 2 images: not square"):
        read([np.zeros((8, 8), np.uint8), np.zeros((4, 8, 3), np.uint8)])
    padding = get_data_set(get_graph("celebahq"), Source(framing=Framing("pad")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        levels = read_pictures(np.full((4, 8), 255, np.uint8), padding, (1, 8, 8)).levels
    assert levels[0, 0, 2:6].min() == 255 and levels[0, 0, :2].max() == 0
