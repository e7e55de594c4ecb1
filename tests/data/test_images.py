"""A folder of images: what is found, what every mode becomes, and which attributes.csv is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dscm.data.images import UnreadableImage, decode, find_images, read_image
from dscm.errors import InputError

RAMP = np.arange(36, dtype=np.uint8).reshape(6, 6) * 7


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    """Save an array as an image, converted to a mode if one is given."""
    image = Image.fromarray(array)
    image = image.convert(mode) if mode else image
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def test_find_images(tmp_path: Path) -> None:
    for name in ["b.PNG", "a.jpeg", "sub folder/é ü.JPG", "sub folder/数字.bmp", ".hidden.png", ".cache/c.png"]:
        save(tmp_path / name, RAMP)
    (tmp_path / "attributes.csv").touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.as_posix() for path in find_images(tmp_path)]
    assert found == ["a.jpeg", "b.PNG", "sub folder/é ü.JPG", "sub folder/数字.bmp"]
    hidden = tmp_path / ".cache"
    assert find_images(hidden) == [Path("c.png")]


def test_find_images_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "absent")
    with pytest.raises(InputError, match="no images in it; looked for .png, .jpg, .jpeg, .bmp"):
        find_images(tmp_path)
    with pytest.raises(InputError, match="a.png: is not a folder"):
        find_images(save(tmp_path / "a.png", RAMP))


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
    with pytest.raises(UnreadableImage, match="^not a PNG, JPEG or BMP image$"):
        read_image(tmp_path / "a.png", 6, 1)
    with pytest.raises(UnreadableImage, match="not a PNG"):  # mode F: only TIFF and the like can store it
        read_image(save(tmp_path / "a.png", RAMP, "F", format="TIFF"), 6, 1)
    with pytest.raises(UnreadableImage, match="^mode HSV is not one of 1, L, LA"):
        decode(Image.new("HSV", (6, 6)))
    with pytest.raises(UnreadableImage, match="No such file"):
        read_image(tmp_path / "absent.png", 6, 1)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UnreadableImage, match="exceeds limit"):
        read_image(save(tmp_path / "a.png", RAMP), 6, 1)
