"""Images decoded once into one memory-mapped file, so that later epochs and later runs only copy bytes."""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dscm.data.images import UnreadableImage
from dscm.errors import InputError
from dscm.files import atomic_path

MAY_BE_ABSENT = 0.01  # of the images of a split; more than this hints at a wrong folder
NAMED = 20  # images that a message names; it counts the others
CHUNK = 32  # images in one task of a worker


def find_present(root: Path, names: Sequence[str], source: str, skip_missing: bool) -> list[int]:
    """Return which of the named images exist; a few absent ones are left out with one line on standard error.

    Args:
        root: the folder of the images.
        names: their paths relative to ``root``.
        source: the file, and the part of it, that names them; the messages start with it.
        skip_missing: leave out any number of absent images.

    Returns:
        Indices into ``names``, ascending and at least one.

    Raises:
        InputError: no image is named, none exists, or more than `MAY_BE_ABSENT` of them are absent.
    """
    if not names:
        raise InputError(f"{source}: no images")
    present = [index for index, name in enumerate(names) if (root / name).is_file()]
    if len(present) < len(names):
        absent = [names[index] for index in sorted(set(range(len(names))) - set(present))]
        message = f"{source}: {len(absent)} of {len(names)} images are absent from {root}: {_name_some(absent)}"
        if not present:
            raise InputError(message)
        if len(absent) > MAY_BE_ABSENT * len(names) and not skip_missing:
            raise InputError(f"{message}; allowed: {MAY_BE_ABSENT:.0%}, or any number with --skip-missing")
        print(f"{message}; left out", file=sys.stderr)
    return present


def decode(
    root: Path,
    names: Sequence[str],
    read: Callable[[Path], Tensor],
    shape: tuple[int, ...],
    cache_dir: Path,
    label: str,
    workers: int = 1,
) -> Tensor:
    """Decode images, or map the file into which they were decoded before.

    The file is keyed by ``label``, ``shape``, and the name, size and time of change of every image.

    Args:
        root: the folder of the images.
        names: their paths relative to ``root``.
        read: reads one image as uint8 of ``shape``; raises `UnreadableImage`. Worker processes call it.
        shape: of one image, (C, H, W).
        cache_dir: where the file is kept.
        label: begins the file's name; says all that decides the pixels besides the images, such as ``faces-64``.
        workers: processes that decode.

    Returns:
        uint8 (N, C, H, W), read from the file as it is indexed. Writing to it changes the memory, never the file.

    Raises:
        InputError: images can't be decoded, or the file is damaged.
        ValueError: ``read`` returned another shape.
    """
    path = cache_dir / f"{label}-{_fingerprint(root, names, label, shape)}.npy"
    if not path.is_file():  # where another process makes the same meanwhile, the later one replaces like by like
        _decode_into(path, root, names, read, shape, workers)
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c"))  # copy on write: PyTorch warns about read-only arrays
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged; delete it, and the images are decoded again") from error


def _fingerprint(root: Path, names: Sequence[str], label: str, shape: tuple[int, ...]) -> str:
    """Hash all that the decoded pixels depend on; looking at a file's size and time is far cheaper than reading it."""
    states = [(root / name).stat() for name in names]
    files = [(name, state.st_size, state.st_mtime_ns) for name, state in zip(names, states)]
    return hashlib.sha256(json.dumps([label, shape, files]).encode()).hexdigest()[:16]


def _decode_into(
    path: Path,
    root: Path,
    names: Sequence[str],
    read: Callable[[Path], Tensor],
    shape: tuple[int, ...],
    workers: int,
) -> None:
    """Decode all images into one .npy file, image after image: so a full disk is an error, not a crash."""
    broken = []
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as file,
        ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        results = pool.map(partial(_try_to_read, read, shape), [root / name for name in names], chunksize=CHUNK)
        for name, result in zip(names, tqdm(results, total=len(names), desc="decoding images", unit="image")):
            if isinstance(result, bytes):
                file.write(result)
            else:
                broken.append(f"{name} ({result})")
        if broken:
            raise InputError(f"{root}: {len(broken)} of {len(names)} images do not decode: {_name_some(broken)}")


def _try_to_read(read: Callable[[Path], Tensor], shape: tuple[int, ...], path: Path) -> bytes | str:
    """Return an image's bytes, or why it can't be used; a tensor sent between processes would hold a file open."""
    try:
        image = read(path)
    except UnreadableImage as error:
        return str(error)
    if image.shape != shape or image.dtype != torch.uint8:
        raise ValueError(f"{path}: read as {image.dtype} of shape {tuple(image.shape)}, not uint8 of {shape}")
    return image.numpy().tobytes()


def _name_some(names: Sequence[str]) -> str:
    """List the first few names, and an ellipsis for the others."""
    return ", ".join([*names[:NAMED], *(["…"] if len(names) > NAMED else [])])
