"""A cache of decoded images: one memory-mapped file, so that later epochs and runs only copy bytes."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dscm.data.images import UnreadableImage
from dscm.errors import EmptySplit, InputError, option
from dscm.files import atomic_path, parse_json
from dscm.machine import worker_pool

MAX_ABSENT = 0.01  # fraction of a split's images; more suggest a wrong folder
MAX_NAMED = 20  # images that a message names
HEADER = 128  # bytes of a cache file before its pixels
CHUNK = 32  # images per task of a worker


def user_cache_dir() -> Path:
    """Return the user's cache folder, or one for temporary files where the user has no home, or may not write there."""
    temporary = Path(tempfile.gettempdir()) / "dscm"
    try:
        folder = Path.home() / ".cache" / "dscm"
    except RuntimeError:
        return temporary
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return folder if os.access(there, os.W_OK) else temporary


def find_present(root: Path, names: Sequence[str], source: str, skip_missing: bool) -> list[int]:
    """Select the images that exist; a few absent ones are skipped with one line on standard error.

    Args:
        root: the folder of the images.
        names: their paths relative to ``root``.
        source: the file and split that list them; messages start with it.
        skip_missing: whether to skip any number of absent images.

    Returns:
        Indices into ``names``, ascending, at least one.

    Raises:
        EmptySplit: ``names`` is empty.
        InputError: no image exists, or more than `MAX_ABSENT` of them are absent.
    """
    if not names:
        raise EmptySplit(f"{source}: no images")
    present = [index for index, name in enumerate(names) if (root / name).is_file()]
    if len(present) < len(names):
        absent = [names[index] for index in sorted(set(range(len(names))) - set(present))]
        message = f"{source}: {len(absent)} of {len(names)} images are absent from {root}: {_name_some(absent)}"
        if not present:
            raise InputError(message)
        if len(absent) > MAX_ABSENT * len(names) and not skip_missing:
            raise InputError(f"{message}; allowed: {MAX_ABSENT:.0%}, or any number with {option('skip_missing')}")
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
    skip_broken: bool = False,
) -> tuple[Tensor, list[int]]:
    """Decode images, or map the cache file that an earlier call wrote.

    The cache file is keyed by ``label``, ``shape``, and the name, size and modification time of every image. Images
    that cannot be decoded are listed in a file beside it.

    Args:
        root: the folder of the images.
        names: their paths relative to ``root``.
        read: reads one image as uint8 of ``shape`` or raises `UnreadableImage`; called in worker processes.
        shape: shape of one image, (C, H, W).
        cache_dir: the folder of the cache file.
        label: names the file and everything that determines the pixels besides the images, as in ``faces-64``.
        workers: number of worker processes.
        skip_broken: whether to leave out images that cannot be decoded, with one line on standard error.

    Returns:
        uint8 (N, C, H, W), read from the file on indexing, and the N indices into ``names``, ascending. Writing to the
        images changes memory, never the file.

    Raises:
        InputError: images cannot be decoded, or the cache file is damaged.
        ValueError: ``read`` returned another shape.
    """
    path = cache_dir / f"{label}-{_fingerprint(root, names, label, shape)}.npy"
    if not path.is_file():  # processes that race here write equal files
        _decode_into(path, root, names, read, shape, workers, skip_broken)
    try:
        images = torch.from_numpy(np.load(path, mmap_mode="c"))  # copy on write: PyTorch warns about read-only arrays
        listed = parse_json(_beside(path).read_text(encoding="utf-8")) if len(images) < len(names) else {}
        broken = {int(index): str(reason) for index, reason in listed.items()}
        if images.dtype != torch.uint8 or images.shape != (len({*range(len(names))} - broken.keys()), *shape):
            raise ValueError
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise InputError(f"{path}: damaged; delete it and the images are decoded again") from error
    if broken:
        print(f"{_report(root, names, broken, skip_broken)}; left out", file=sys.stderr)
    return images, [index for index in range(len(names)) if index not in broken]


def _report(root: Path, names: Sequence[str], broken: Mapping[int, str], skip: bool) -> str:
    """Count and name the broken images; each index has its reason.

    Raises:
        InputError: they may not be skipped, or all images are broken.
    """
    reasons = [f"{names[index]} ({reason})" for index, reason in broken.items()]
    message = f"{root}: {len(broken)} of {len(names)} images do not decode: {_name_some(reasons)}"
    if not skip:
        raise InputError(f"{message}; leave them out with {option('skip_missing')}")
    if len(broken) == len(names):
        raise InputError(message)
    return message


def _beside(path: Path) -> Path:
    """Name the list of broken images beside a cache file, by index with the reason."""
    return path.with_suffix(".broken.json")


def _fingerprint(root: Path, names: Sequence[str], label: str, shape: tuple[int, ...]) -> str:
    """Hash what the pixels depend on; size and modification time stand for a file's content, which takes longer."""
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
    skip_broken: bool,
) -> None:
    """Decode all images into one .npy file, written sequentially so that a full disk raises instead of crashing."""
    broken: dict[int, str] = {}
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as file,
        worker_pool(workers) as pool,
    ):
        file.write(_write_header(len(names), shape))
        results = pool.map(partial(_try_to_read, read, shape), [root / name for name in names], chunksize=CHUNK)
        for i, result in enumerate(tqdm(results, total=len(names), desc="decoding images", unit="image")):
            if isinstance(result, bytes):
                file.write(result)
            else:
                broken[i] = result
        if broken:
            _report(root, names, broken, skip_broken)
            file.seek(0)
            file.write(_write_header(len(names) - len(broken), shape))
            with atomic_path(_beside(path)) as list_of_broken:
                list_of_broken.write_text(json.dumps(broken), encoding="utf-8")


def _write_header(n: int, shape: tuple[int, ...]) -> bytes:
    """Write the header of a .npy file of ``n`` images, always as long."""
    text = str({"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}).ljust(HEADER - 11) + "\n"
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode()


def _try_to_read(read: Callable[[Path], Tensor], shape: tuple[int, ...], path: Path) -> bytes | str:
    """Return an image's bytes or the reason it is unreadable; a tensor sent between processes holds a file open."""
    try:
        image = read(path)
    except UnreadableImage as error:
        return str(error)
    if image.shape != shape or image.dtype != torch.uint8:
        raise ValueError(f"{path}: read as {image.dtype} of shape {tuple(image.shape)}, not uint8 of {shape}")
    return image.numpy().tobytes()


def _name_some(names: Sequence[str]) -> str:
    """List the first `MAX_NAMED` names, followed by an ellipsis if there are more."""
    return ", ".join([*names[:MAX_NAMED], *(["…"] if len(names) > MAX_NAMED else [])])
