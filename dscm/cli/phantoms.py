"""Write a synthetic data set, or draw skin markers onto real mammograms.

    python -m dscm.cli.phantoms celebahq --out D --n 30000
    python -m dscm.cli.phantoms embed --out D --on MAMMOGRAMS --labels MAMMOGRAMS/labels.csv --versions 12

The second writes versions of real mammograms with and without circle and triangle markers in EMBED's layout, and the
unmarked images in D/unmarked, so that the true counterfactual of every marker is known: train.py --data embed learns
from it, and evaluate.py measures how well markers are removed from images like yours. With --n, D also gets drawings.
Four versions of a mammogram show every combination of markers at the same places; they have the same number in the
column group, by which --set pairs=on of train.py finds them.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

from dscm.cli.arguments import number
from dscm.data.phantoms.layouts import Kind, Recipe, new_folder, write_plain, write_set
from dscm.data.phantoms.mammograms import COMBINATIONS
from dscm.data.phantoms.marked import write_marked
from dscm.data.phantoms.tissue_labels import list_mammograms
from dscm.errors import InputError, option, spell

VERSIONS = 12  # of each real mammogram: every combination of markers at three places


def make_parser() -> argparse.ArgumentParser:
    """Declare the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dscm.cli.phantoms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "kind", choices=get_args(Kind), help="faces as CelebAMask-HQ, mammograms as EMBED, or pendulums as CausalVAE"
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--n", type=number(int, 1, 999_999), help="number of images to draw")
    parser.add_argument("--seed", type=number(int, 0, 2**62), default=0, help="of everything random (default: 0)")
    parser.add_argument("--plain", action="store_true", help="one folder with attributes.csv, for counterfactual.py")
    parser.add_argument("--on", type=Path, metavar="FOLDER", help="of embed: real mammograms to draw markers onto")
    words = "whose they are, for the split: columns image and woman, and density, cancer (default: FOLDER/labels.csv)"
    parser.add_argument("--labels", type=Path, metavar="CSV", help=words)
    words = f"of each mammogram of --on, four with markers at the same places (default: {VERSIONS})"
    parser.add_argument("--versions", type=number(int, 1, 1000), metavar="K", help=words)
    words = "of each drawing of embed, with other markers; N images in all (default: 1)"
    parser.add_argument("--drawn-versions", type=number(int, 1, 1000), metavar="K", help=words)
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=number(int, 1), default=cores, help="processes (default: number of cores)")
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the data set that a command line means.

    Raises:
        InputError: options contradict each other, or images or labels are missing or damaged.
    """
    if args.drawn_versions and (args.kind != "embed" or args.plain or args.n is None):
        needs = f"{option('n')}, without {option('plain')}"
        raise InputError(f"{option('drawn_versions')}: versions are drawn in the layout of embed alone, with {needs}")
    drawn_versions = args.drawn_versions or 1
    if args.on is None:
        for name in ("labels", "versions"):
            if getattr(args, name) is not None:
                raise InputError(f"{option(name)}: has no effect without {option('on')}")
        if args.n is None:
            raise InputError(f"{option('n')}: say how many images to draw")
        write = write_plain if args.plain else write_set
        with new_folder(args.out) as folder:
            return write(folder, Recipe(args.kind, args.n, args.seed, drawn_versions=drawn_versions), args.workers)
    if args.kind != "embed" or args.plain:
        raise InputError(f"{option('on')}: markers are drawn in the layout of embed alone, without {option('plain')}")
    real, notes = list_mammograms(args.on, args.labels)
    for note in notes:
        print(f"note: {spell(note, _flag)}", file=sys.stderr)
    versions = {"versions": args.versions or VERSIONS, "drawn_versions": drawn_versions, "grouped": COMBINATIONS}
    recipe = Recipe("embed", args.n or 0, args.seed, real=len(real), **versions)
    with new_folder(args.out) as folder:
        write_marked(folder, recipe, args.on, real, args.workers)


def main() -> None:
    """Parse the command line and write the data set."""
    parser = make_parser()
    args = parser.parse_args()
    try:
        run(args)
    except InputError as error:
        parser.exit(2, f"error: {error.typed(_flag)}\n")


def _flag(name: str) -> str:
    """Write an option as it is typed."""
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    main()
