"""An image that is read and written again is the same image: pixels, depth, opacity, and what describes them."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dscm.data.original import Original, find_losses, read_original
from dscm.data.png import encode_png

RNG = np.random.default_rng(0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]
TURNED = 0x0112  # EXIF tag of the orientation


def draw(channels: int, dtype: type = np.uint8) -> np.ndarray:
    """Draw noise (7, 5) or (7, 5, channels)."""
    shape = (7, 5, channels) if channels > 1 else (7, 5)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def rewrite(path: Path) -> Path:
    """Read an image, and write its own colours back into it."""
    original = read_original(path)
    target = path.with_name("rewritten.png")
    original.write(target, original.pixels)
    return target


def write_deep_tiff(path: Path, pixels: np.ndarray, order: str, compression: str | None) -> None:
    """Write uint16 (H, W, 3), which Pillow only reads, as TIFF: the strip of it, and the tags that describe it."""
    strip = Image.fromarray(pixels.astype(f"{order}u2").view(np.uint8).reshape(len(pixels), -1))
    data = strip.tobytes() if compression is None else zlib.compress(strip.tobytes())
    height, width, channels = pixels.shape
    tags = [  # number, type (3 is 16 bits, 4 is 32), how many, the value or where it is
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1 if compression is None else 8),
        (262, 3, 1, 2), (273, 4, 1, 14), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    bits, padding = struct.pack(f"{order}3H", 16, 16, 16), b"\0" * (len(data) % 2)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 14 + len(data + padding))
    layouts = {True: f"{order}HHIHxx", False: f"{order}HHII"}
    entries = b"".join(
        struct.pack(layouts[kind == 3 and n == 1], *(number, kind, n, value)) for number, kind, n, value in tags
    )
    table = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    path.write_bytes(head + bits + data + padding + table)


KINDS = [(n, dtype) for n in (1, 2, 3, 4) for dtype in (np.uint8, np.uint16) if (n, dtype) != (2, np.uint16)]


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_every_depth_and_number_of_channels_survives(tmp_path: Path, channels: int, dtype: type) -> None:
    """Written here, read by Pillow, and written again, to the byte."""
    pixels = draw(channels, dtype)
    (tmp_path / "a.png").write_bytes(encode_png(pixels))
    original = read_original(tmp_path / "a.png")
    layers = np.atleast_3d(pixels)
    colours = layers[..., :3] if channels > 2 else layers[..., 0]
    assert original.pixels.dtype == dtype and np.array_equal(original.pixels, colours)
    assert (original.alpha is None) == (channels % 2 == 1)
    assert original.alpha is None or np.array_equal(original.alpha, layers[..., -1])
    assert rewrite(tmp_path / "a.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert not [*find_losses(image, 1)]
        image.verify()  # checksums


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_deep_tiff_files_keep_their_depth(tmp_path: Path, order: str, compression: str | None) -> None:
    """Of either order of bytes, as they are or compressed, which other decoders of Pillow read."""
    pixels = draw(3, np.uint16)
    write_deep_tiff(tmp_path / "a.tif", pixels, order, compression)
    assert np.array_equal(read_original(tmp_path / "a.tif").pixels, pixels)
    with Image.open(tmp_path / "a.tif") as header:
        assert not [*find_losses(header, 3)]


def test_pillow_reads_what_is_written(tmp_path: Path) -> None:
    for channels in (1, 2, 3, 4):
        pixels = draw(channels)
        (tmp_path / "a.png").write_bytes(encode_png(pixels))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_profile_resolution_and_exif_survive(tmp_path: Path, suffix: str) -> None:
    """The orientation is applied once: the pixels are upright, and nothing says that they are not."""
    exif = Image.Exif()
    exif[TURNED], exif[0x010F] = 6, "a camera"
    options = {"icc_profile": SRGB, "dpi": (300, 300), "exif": exif, "quality": 100}
    Image.fromarray(draw(3)).save(tmp_path / f"a.{suffix}", **options)
    with Image.open(rewrite(tmp_path / f"a.{suffix}")) as after:
        after.load()
        assert after.size == (7, 5) and after.info["icc_profile"] == SRGB
        assert after.getexif().get(TURNED, 1) == 1
        if suffix != "webp":  # which has no resolution
            assert after.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        if suffix != "tif":  # whose tags are those of its own layout
            assert after.getexif()[0x010F] == "a camera"


def test_deep_colour_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[TURNED] = 6
    pixels = draw(3, np.uint16)
    (tmp_path / "a.png").write_bytes(encode_png(pixels, {"exif": exif.tobytes()}))
    assert np.array_equal(read_original(tmp_path / "a.png").pixels, np.rot90(pixels, -1))


def test_other_descriptions_of_colour_survive(tmp_path: Path) -> None:
    """Those of PNG files; odd ones are left out rather than written wrong."""
    chroma = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    info = {"gamma": 0.45455, "chromaticity": chroma, "srgb": 0}
    (tmp_path / "a.png").write_bytes(encode_png(draw(3), info))
    after = Image.open(rewrite(tmp_path / "a.png")).info
    assert after["gamma"] == 0.45455 and after["srgb"] == 0 and after["chromaticity"] == pytest.approx(chroma)
    Image.fromarray(draw(3)).save(tmp_path / "b.tif", dpi=(0, 300))
    assert "dpi" not in Image.open(rewrite(tmp_path / "b.tif")).info


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA", "PA"])
def test_transparency_of_every_kind_survives(tmp_path: Path, mode: str) -> None:
    image, options = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(7, 5)), {}
    if mode in ("LA", "PA"):
        image.putalpha(Image.fromarray(draw(1)))
    elif mode == "RGB":
        image, options = image.convert("RGB"), {"transparency": (3, 3, 3)}
    else:
        image, options = image.convert(mode), {"transparency": 3}
    image.save(tmp_path / "a.png", **options)
    with Image.open(tmp_path / "a.png") as before, Image.open(rewrite(tmp_path / "a.png")) as after:
        assert after.mode == ("LA" if before.mode in ("L", "LA") else "RGBA")
        assert np.array_equal(np.asarray(after.convert("RGBA")), np.asarray(before.convert("RGBA")))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_over_black_is_what_models_see(dtype: type) -> None:
    layers = draw(4, dtype)
    seen = Original(layers[..., :3], layers[..., 3], {}).over_black()
    exact = layers[..., :3] * (layers[..., 3:] / np.iinfo(dtype).max)
    assert seen.dtype == dtype and np.abs(seen - exact).max() <= 0.5


def test_losses_are_named(tmp_path: Path) -> None:
    """Whatever is not kept: colours for print, 16 bits of a TIFF file, and a profile of other colours."""
    Image.new("CMYK", (6, 6)).save(tmp_path / "cmyk.jpg", icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:])
    Image.new("L", (6, 6)).save(tmp_path / "grey.png", icc_profile=GREY_PROFILE)
    Image.new("RGB", (6, 6)).save(tmp_path / "plain.png", icc_profile=SRGB)
    (tmp_path / "deep.png").write_bytes(encode_png(draw(2, np.uint16)))
    wrong = "the colour profile is of other colours than are written, and is left out"
    for name, channels, losses in (
        ("cmyk.jpg", 3, ["CMYK becomes RGB", wrong]),
        ("grey.png", 1, []),
        ("grey.png", 3, [wrong]),
        ("plain.png", 1, []),
        ("deep.png", 3, ["16 bits a channel become 8"]),
    ):
        with Image.open(tmp_path / name) as header:
            assert [*find_losses(header, channels)] == losses, name
    original = read_original(tmp_path / "grey.png")
    for pixels, kept in ((np.zeros((6, 6), np.uint8), True), (np.zeros((6, 6, 3), np.uint8), False)):
        original.write(tmp_path / "out.png", pixels)
        assert ("icc_profile" in Image.open(tmp_path / "out.png").info) == kept
