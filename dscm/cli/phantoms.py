"""Write a synthetic data set: ``python -m dscm.cli.phantoms celebahq --out D --n 30000``."""

import argparse
import os
from pathlib import Path
from typing import get_args

from dscm.cli.arguments import number
from dscm.data.phantoms.layouts import Kind, Recipe, new_folder, write_plain, write_set
from dscm.errors import InputError


def main() -> None:
    """Parse the command line and write the data set."""
    parser = argparse.ArgumentParser(prog="python -m dscm.cli.phantoms", description=__doc__)
    parser.add_argument(
        "kind", choices=get_args(Kind), help="faces as CelebAMask-HQ, mammograms as EMBED, or pendulums as CausalVAE"
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--n", type=number(int, 1, 999_999), required=True, help="number of images")
    parser.add_argument("--seed", type=number(int, 0, 2**62), default=0, help="of everything random (default: 0)")
    parser.add_argument("--plain", action="store_true", help="one folder with attributes.csv, for counterfactual.py")
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=number(int, 1), default=cores, help="processes (default: number of cores)")
    args = parser.parse_args()
    write = write_plain if args.plain else write_set
    try:
        with new_folder(args.out) as folder:
            write(folder, Recipe(args.kind, args.n, args.seed), args.workers)
    except InputError as error:
        parser.exit(2, f"error: {error.typed(lambda name: f'--{name}')}\n")


if __name__ == "__main__":
    main()
