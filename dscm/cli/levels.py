"""Fit the noise levels of short paths to models: ``python -m dscm.cli.levels CKPT --data-dir D --steps 8``.

The levels stay in the checkpoint, and are visited unless ``--steps`` or a grid is chosen. Several checkpoints get the
same, so that they can be compared along one path. What answers are compared with depends on them:
``python -m dscm.cli.trust`` measures that anew.
"""

import argparse

from dscm import checkpoint
from dscm.cli.arguments import add_source, find_source, location, number
from dscm.cli.held_out import read_held_out
from dscm.diffusion.levels import CANDIDATES, ENDS, IMAGES, STEPS, fit_levels
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.errors import InputError, option
from dscm.model import load


def main() -> None:
    """Parse the command line and complete the checkpoints."""
    parser = argparse.ArgumentParser(prog="python -m dscm.cli.levels", description=__doc__)
    parser.add_argument(
        "checkpoint", type=location, nargs="+", help="diffusion mechanisms of an image; the levels fit the first"
    )
    parser.add_argument(
        "--steps", type=number(int, 1, CANDIDATES), default=STEPS, help="each way (default: %(default)s)"
    )
    parser.add_argument("--ends", type=number(float, 0.001), nargs=2, default=ENDS, metavar=("HIGH", "LOW"),
                        help="the highest and the lowest noise level (default: 80 0.02)")  # fmt: skip
    parser.add_argument("--attributes", type=location, help="learned mechanisms (default: the run's or bundled)")
    add_source(parser)
    args = parser.parse_args()
    source = find_source(args)
    try:
        if args.ends[0] <= args.ends[1]:
            raise InputError(f"{option('ends')} {args.ends[0]:g} {args.ends[1]:g}: the first must be above the second")
        model = load(args.checkpoint[0], None, None, args.attributes)
        if not isinstance(model.mechanism, DiffusionMechanism):
            raise InputError(f"{args.checkpoint[0]}: {model.mechanism.kind} has no noise levels")
        _, data = read_held_out(model, source)
        some = {name: value[:IMAGES].to(model.device) for name, value in data.items()}
        levels = fit_levels(model.mechanism, some, args.steps, tuple(args.ends))
        for path in args.checkpoint:
            kept = load(path, None, None, args.attributes).checkpoint
            checkpoint.add_sampling(kept.path, {**kept.sampling, "levels": levels})
            print(f"{kept.path}: {' '.join(f'{level:g}' for level in levels)}")
    except InputError as error:
        parser.exit(2, f"error: {error.typed(lambda name: '--' + name.replace('_', '-'))}\n")


if __name__ == "__main__":
    main()
