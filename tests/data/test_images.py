"""A folder of images: what is found, what every mode becomes, and which attributes.csv is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dscm.data.framing import Framing
from dscm.data.images import SUFFIXES, UnreadableImage, decode, fit, read_image

RAMP = np.arange(36, dtype=np.uint8).reshape(6, 6) * 7


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    """Save an array as an image, converted to a mode if one is given."""
    image = Image.fromarray(array)
    image = image.convert(mode) if mode else image
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def test_grey_and_colour_are_exact(tmp_path: Path) -> None:
    colour = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
    grey = torch.from_numpy(RAMP)[None]
    for suffix in ("png", "bmp"):
        read = read_image(save(tmp_path / f"grey é.{suffix}", RAMP), 6, 1)
        assert read.dtype == torch.uint8 and read.is_contiguous() and torch.equal(read, grey)
        assert torch.equal(read_image(tmp_path / f"grey é.{suffix}", 6, 3), grey.expand(3, 6, 6))
        read = read_image(save(tmp_path / f"colour.{suffix}", colour), 6, 3)
        assert torch.equal(read, torch.from_numpy(colour).permute(2, 0, 1))
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(tmp_path / "colour.png", 6, 1)[0].numpy() - expected).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode(tmp_path: Path, mode: str, channels: int) -> None:
    array = np.where(RAMP > 120, 255, 0).astype(np.uint8)
    path = save(tmp_path / "a.png", array, mode)
    assert Image.open(path).mode == mode
    assert torch.equal(read_image(path, 6, channels), torch.from_numpy(array).expand(channels, 6, 6))


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_over_black(tmp_path: Path, channels: int) -> None:
    array = np.full((6, 6, channels), 200, np.uint8)
    array[..., -1] = np.linspace(0, 255, 36).reshape(6, 6)
    read = read_image(save(tmp_path / "a.png", array), 6, 1)[0].double()
    assert (read - torch.from_numpy(array[..., -1] / 255 * 200)).abs().max() <= 1


def test_transparent_palette_entry_is_black(tmp_path: Path) -> None:
    image = Image.new("P", (6, 6), 1)
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png", 6, 3).max() == 0


def test_sixteen_bits(tmp_path: Path) -> None:
    array = np.linspace(0, 65535, 36).astype(np.uint16).reshape(6, 6)
    read = read_image(save(tmp_path / "a.png", array), 6, 1)[0]
    assert Image.open(tmp_path / "a.png").mode.startswith("I")
    assert torch.equal(read, torch.from_numpy(array.astype(np.float64) / 65535 * 255).round().to(torch.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_orientation(tmp_path: Path, dtype: type) -> None:
    array = np.zeros((6, 6), dtype)
    array[0, :3] = np.iinfo(dtype).max
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn clockwise
    read = read_image(save(tmp_path / "a.png", array, exif=exif), 6, 1)[0]
    assert torch.equal(read, torch.rot90((torch.from_numpy(array.astype(np.int64)) > 0) * 255, -1).to(torch.uint8))


def test_jpeg_exif_orientation(tmp_path: Path) -> None:
    array = np.zeros((16, 16), np.uint8)
    array[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    read = read_image(save(tmp_path / "a.jpg", array, exif=exif), 16, 3)
    assert read[:, :8].max() < 20 and read[:, 8:].min() > 235


def test_resize_is_antialiased(tmp_path: Path) -> None:
    board = (np.indices((64, 48)).sum(0) % 2 * 255).astype(np.uint8)
    read = read_image(save(tmp_path / "a.png", board), 8, 3)
    assert read.shape == (3, 8, 8) and (read.double() - 127.5).abs().max() < 8
    assert read_image(tmp_path / "a.png", 100, 1).shape == (1, 100, 100)


def noise(size: int = 64) -> np.ndarray:
    """Return an image that doesn't compress, so that half its file is half its pixels."""
    return np.random.default_rng(0).integers(256, size=(size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", noise())
    data = path.read_bytes()
    for size in (3, 30, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(UnreadableImage, match="^[^\n]+$"):
            read_image(path, 64, 3)
    path.write_bytes(b"")
    with pytest.raises(UnreadableImage, match="^the file is empty"):
        read_image(path, 64, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_damaged_bytes_never_crash(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", noise(16))
    data = np.frombuffer(path.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(100):
        damaged = data.copy()
        damaged[generator.integers(len(data) // 4, size=4)] = generator.integers(256, size=4)
        path.write_bytes(damaged.tobytes())
        try:
            assert read_image(path, 16, 3).shape == (3, 16, 16)
        except UnreadableImage as error:
            assert str(error) and "\n" not in str(error)


def test_printed_colours(tmp_path: Path) -> None:
    """CMYK, as some JPEG files are: full cyan is no red."""
    Image.new("CMYK", (6, 6), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg", 6, 3).float().mean(dim=(1, 2)).tolist()
    assert red < 5 and green > 250 and blue > 250


def test_not_an_image_and_unsupported_modes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello, I am text")
    with pytest.raises(UnreadableImage, match="^not a PNG, JPEG or other image$"):
        read_image(tmp_path / "a.png", 6, 1)
    with pytest.raises(UnreadableImage, match="^mode F is not one of 1, L, LA"):  # only TIFF and the like store it
        read_image(save(tmp_path / "a.png", RAMP, "F", format="TIFF"), 6, 1)
    with pytest.raises(UnreadableImage, match="^mode HSV is not one of 1, L, LA"):
        decode(Image.new("HSV", (6, 6)))
    with pytest.raises(UnreadableImage, match="No such file"):
        read_image(tmp_path / "absent.png", 6, 1)


@pytest.mark.parametrize("levels", [(-5, 100), (0, 70_000)])
def test_integers_beyond_sixteen_bits_are_refused(tmp_path: Path, levels: tuple[int, int]) -> None:
    """They would wrap around: dark becomes bright."""
    path = save(tmp_path / "a.tiff", np.array([levels], np.int32))
    with pytest.raises(UnreadableImage, match=f"^mode I with levels from {levels[0]} to {levels[1]}: not 16-bit grey$"):
        read_image(path, 6, 1)


@pytest.mark.parametrize("suffix", ["webp", "tif", "TIFF", "gif", "jp2", "ppm", "pgm", "dib", "tga", "pcx", "sgi"])
def test_what_pillow_reads_is_read(tmp_path: Path, suffix: str) -> None:
    if f".{suffix.lower()}" not in SUFFIXES:
        pytest.skip(f"this Pillow reads no {suffix}")
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", RAMP, "L" if suffix == "pgm" else None, **options)
    assert torch.equal(read_image(path, 6, 1), torch.from_numpy(RAMP)[None])
    text = tmp_path / f"text.{suffix}"
    text.write_text("hello, I am text")
    with pytest.raises(UnreadableImage, match="^[^\n]+$"):
        read_image(text, 6, 1)


def test_of_several_frames_the_first_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((6, 6), level, np.uint8)) for level in (10, 200)]
    for suffix in ("gif", "tif", "png"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert (read_image(path, 6, 1) == 10).all(), suffix


def test_strips_of_any_aspect(tmp_path: Path) -> None:
    """One pixel wide and thousands high: stretched, cropped and padded, but not at any price."""
    path = save(tmp_path / "a.png", np.full((5000, 1), 255, np.uint8))
    for fitted, mean in (("stretch", 255), ("crop", 255), ("pad", 0)):
        read = read_image(path, 6, 1, Framing(fitted)).float()
        assert read.shape == (1, 6, 6) and abs(read.mean() - mean) < 1, fitted
    with pytest.raises(UnreadableImage, match="^1×20000 pixels are too many to pad to a square$"):
        fit(np.zeros((20_000, 1), np.uint8), 6, 1, Framing("pad"))


def test_eight_bits_in_sixteen_are_not_taken_for_black(tmp_path: Path) -> None:
    for dtype in (np.uint16, np.int32):
        with pytest.raises(UnreadableImage, match="16 bits, but no level above 245: all but black"):
            read_image(save(tmp_path / "a.tif", RAMP.astype(dtype)), 6, 1)
    assert not read_image(save(tmp_path / "b.png", np.zeros((6, 6), np.uint16)), 6, 1).any()


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UnreadableImage, match="exceeds limit"):
        read_image(save(tmp_path / "a.png", RAMP), 6, 1)
