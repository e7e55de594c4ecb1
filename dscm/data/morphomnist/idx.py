"""The IDX files of MNIST: a small header, then raw bytes, plain or gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dscm.errors import InputError
from dscm.files import atomic_path

UINT8 = 0x08
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path | str) -> Tensor:
    """Read an IDX file of unsigned bytes, plain or gzipped as its first bytes tell.

    Args:
        path: the file.

    Returns:
        uint8 of the shape in the header.

    Raises:
        InputError: the file is missing, truncated, too long, not IDX, or a damaged gzip.

    Source: the file format section of http://yann.lecun.com/exdb/mnist/.
    """
    data = _read_bytes(Path(path))
    sizes = _read_sizes(Path(path), data)
    start = 4 + 4 * len(sizes)
    if len(data) - start != math.prod(sizes):
        raise InputError(
            f"{path}: the header promises {math.prod(sizes)} bytes of data (shape "
            f"{' x '.join(map(str, sizes))}), the file has {len(data) - start}"
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(sizes).copy())


def write_idx(path: Path | str, array: Tensor | np.ndarray) -> None:
    """Write an IDX file, gzipped if the name ends in ``.gz``; the same array always gives the same bytes.

    Args:
        path: the file, written atomically.
        array: uint8 of at least one dimension.

    Raises:
        ValueError: ``array`` is not uint8 or has no dimension.
    """
    values = np.asarray(array)
    if values.dtype != np.uint8 or values.ndim == 0:
        raise ValueError(f"an IDX file holds uint8 of one dimension or more, not {values.dtype} of {values.ndim}")
    header = bytes([0, 0, UINT8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    data = header + values.tobytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)


def find_idx(folder: Path | str, stem: str) -> Path:
    """Find an IDX file in a folder, plain or else with ``.gz``.

    Args:
        folder: the folder.
        stem: the name without ``.gz``, such as ``train-images-idx3-ubyte``; ``train-images.idx3-ubyte`` is found too.

    Returns:
        The path of the file.

    Raises:
        InputError: the folder has none.
    """
    dotted = stem.replace("-idx", ".idx")
    candidates = [Path(folder) / f"{name}{suffix}" for name in dict.fromkeys((stem, dotted)) for suffix in ("", ".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(f"{folder}: no IDX file; looked for {' and '.join(path.name for path in candidates)}")


def _read_bytes(path: Path) -> bytes:
    """Read a file and decompress it if it is gzipped."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _read_sizes(path: Path, data: bytes) -> tuple[int, ...]:
    """Check the header and return the size of each dimension."""
    if len(data) < 4 or data[:3] != bytes([0, 0, UINT8]) or data[3] == 0:
        raise InputError(
            f"{path}: not an IDX file of bytes: it starts with '{data[:4].hex(' ')}', "
            "not with '00 00 08' and the number of dimensions"
        )
    if len(data) < 4 + 4 * data[3]:
        raise InputError(f"{path}: truncated in the header, which has {data[3]} dimensions")
    return struct.unpack_from(f">{data[3]}I", data, 4)
