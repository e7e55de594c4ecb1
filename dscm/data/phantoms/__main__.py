"""Draw a stand-in for a data set: ``python -m dscm.data.phantoms celebahq --out D --n 30000`` writes its layout."""

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from dscm.cli.arguments import number
from dscm.data.phantoms.layouts import Kind, Recipe, write_plain, write_set
from dscm.errors import InputError, exit_on_input_error


def main() -> None:
    """Draw one set."""
    parser = argparse.ArgumentParser(prog="python -m dscm.data.phantoms", description=__doc__)
    parser.add_argument("kind", choices=get_args(Kind), help="faces as CelebAMask-HQ, or mammograms as EMBED")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--n", type=number(int, 1, 999_999), required=True, help="number of images")
    parser.add_argument("--seed", type=number(int, 0, 2**62), default=0, help="of everything random (default: 0)")
    parser.add_argument("--plain", action="store_true", help="images and attributes.csv alone, for counterfactual.py")
    parser.add_argument(
        "--workers", type=number(int, 1), default=os.cpu_count() or 1, help="processes (default: cores)"
    )
    args = parser.parse_args()
    with new_folder(args.out) as folder:
        write = write_plain if args.plain else write_set
        write(folder, Recipe(args.kind, args.n, args.seed), args.workers)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes ``path`` when the block succeeds.

    Args:
        path: absent, or an empty folder; missing parents are made.

    Raises:
        InputError: ``path`` is a file, or has content.
    """
    path = path.absolute()
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path}: a file of that name exists")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"--out {path}: the folder is not empty; name a new one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        made = Path(temporary) / path.name
        made.mkdir()
        yield made
        made.replace(path)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
