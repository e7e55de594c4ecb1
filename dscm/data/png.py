"""Encode PNG files of 8 or 16 bits a channel with transparency, colour profile, resolution and EXIF data.

Pillow writes 16 bits of grey alone.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

INCH = 0.0254  # metres
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
UP = 2  # the filter that stores each row as its difference to the row above


def encode_png(pixels: np.ndarray, info: Mapping[str, Any] = {}) -> bytes:
    """Encode an image.

    Args:
        pixels: uint8 or uint16, (H, W) or (H, W, C): grey, grey and alpha, RGB, or RGB and alpha.
        info: what Pillow calls ``icc_profile``, ``srgb``, ``gamma``, ``chromaticity``, ``dpi`` and ``exif``, as far as
            an image has them.

    Returns:
        The content of a PNG file.
    """
    layers = pixels if pixels.ndim == 3 else pixels[..., None]
    height, width, channels = layers.shape
    depth = 8 * layers.dtype.itemsize
    rows = np.ascontiguousarray(layers.astype(layers.dtype.newbyteorder(">"))).view(np.uint8).reshape(height, -1)
    filtered = np.full((height, rows.shape[1] + 1), UP, np.uint8)
    filtered[:1, 1:], filtered[1:, 1:] = rows[:1], rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *_describe(info), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_write_chunk(name, content) for name, content in chunks)


def _write_chunk(name: bytes, content: bytes) -> bytes:
    """Write one chunk: its length, its name, its content and a checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _describe(info: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks that say what the pixels mean, in the order that the format asks for."""
    if "gamma" in info:
        yield b"gAMA", struct.pack(">I", round(info["gamma"] * 100_000))
    if "chromaticity" in info:
        yield b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in info["chromaticity"]))
    if "icc_profile" in info:
        yield b"iCCP", b"profile\0\0" + zlib.compress(info["icc_profile"])
    elif "srgb" in info:
        yield b"sRGB", bytes([info["srgb"]])
    if "dpi" in info:
        yield b"pHYs", struct.pack(">IIB", *(round(float(value) / INCH) for value in info["dpi"]), 1)
    if "exif" in info:
        yield b"eXIf", info["exif"].removeprefix(b"Exif\0\0")
