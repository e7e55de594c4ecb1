"""What the three scripts' command lines have in common."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dscm import runs
from dscm.data.mammogram import Framing
from dscm.data.sets import Source
from dscm.errors import InputError

CACHE_DIR = Path.home() / ".cache" / "dscm"


def number(kind: type, low: float, high: float = float("inf"), open_low: bool = False) -> Callable[[str], int | float]:
    """Make an argparse type that accepts numbers in a range.

    Args:
        kind: int or float.
        low, high: the range, inclusive.
        open_low: exclude ``low`` itself.
    """

    bounds = f"{'more than' if open_low else 'at least'} {low:g}"
    if high < float("inf"):
        bounds += f", at most {high:g}"

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high or value == float("inf") or (open_low and value == low):
            noun = "an integer" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"'{text}' must be {noun}, {bounds}")
        return value

    return parse


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--threads`` and ``--seed``."""
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    parser.add_argument("--threads", type=number(int, 1), help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--seed", type=number(int, 0, 2**62), default=0, help="seed of everything random (default: 0)")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the data set lies and how it is read; `read_source` gathers it."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="the data set: raw MNIST or a Morpho-MNIST folder (default: MNIST is downloaded), the folder of "
        "CelebAMask-HQ, or that of EMBED's images",
    )
    parser.add_argument("--csv", type=Path, nargs="+", action="extend", default=[], metavar="CSV", help="EMBED's one "
                        "or two CSV files (default: those at the top of its folder)")  # fmt: skip
    parser.add_argument("--skip-missing", action="store_true", help="leave out rows whose images are absent")
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=CACHE_DIR,
        help="where generated and decoded images are kept (default: %(default)s)",
    )


def add_framing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--keep-aspect`` and ``--clean-background``, which travel in the checkpoint's settings."""
    parser.add_argument("--keep-aspect", action="store_true", help="EMBED: pad to a square rather than stretch")
    parser.add_argument("--clean-background", action="store_true", help="EMBED: black out what is not the breast")


def read_source(args: argparse.Namespace, settings: Mapping[str, Any]) -> Source:
    """Gather where the data set lies, by default that of ``--run``, and how a model of these settings reads it."""
    data_dir, csv = (args.data_dir, ()) if args.data_dir else runs.find_data(args.run)
    return Source(
        data_dir,
        args.cache_dir,
        tuple(args.csv) or csv,
        Framing.of(settings),
        args.skip_missing,
        workers=os.cpu_count() or 1,
    )


def seed_batch(seed: int, start: int, device: torch.device) -> torch.Generator:
    """Make the generator of the batch that begins at image ``start``, whichever process it falls to."""
    return torch.Generator(device).manual_seed((seed + 1_000_003 * start) % 2**63)


def set_up_machine(device: str | None, threads: int | None) -> torch.device:
    """Choose the device and the number of threads.

    Raises:
        InputError: the device does not exist here.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # inversion and alignment add up small differences
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if device not in found + ["cuda"] * (len(found) > 1):
        raise InputError(f"--device {device}: not available here; available: {', '.join(found)}")
    if device.startswith("cuda"):
        torch.cuda.set_device(device if ":" in device else 0)  # what records kernels asks for the current one
    return torch.device(device)


def warn_of_emulation(device: torch.device) -> None:
    """Warn, where bfloat16 is chosen, of a CPU that has no instructions for it; of several processes, one does."""
    first = int(os.environ.get("RANK", 0)) == 0
    if first and device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        print("--precision bfloat16: this CPU only emulates it; float32 is many times as fast", file=sys.stderr)


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse an output folder that has content; nothing is made yet, since the rest of the input may be bad too.

    Args:
        folder: the folder.
        overwrite: write into it all the same; files of the same names are replaced, others stay.

    Raises:
        InputError: it is a file, or it has content and ``overwrite`` is off.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: a file of that name exists")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"--out {folder}: the folder is not empty; name another, or write into it with --overwrite")
