"""Add to a model's checkpoints what answers are compared with: ``python -m dscm.cli.trust CKPT --data-dir D``.

Trainings write it themselves; this is for checkpoints of earlier versions, and for interventions through learned
mechanisms of attributes, which the training of an image does not know. The weights stay as they are.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from dscm import checkpoint
from dscm.assets import FOLDER
from dscm.cli.arguments import add_source, find_source, location
from dscm.cli.held_out import read_held_out
from dscm.data.sets import Source
from dscm.errors import InputError
from dscm.model import Model, load
from dscm.training.recipe import Recipe
from dscm.trust.fit import refer
from dscm.trust.ranks import ENOUGH
from dscm.trust.reference import Reference


def main() -> None:
    """Parse the command line and complete the checkpoints."""
    parser = argparse.ArgumentParser(prog="python -m dscm.cli.trust", description=__doc__)
    parser.add_argument("checkpoint", type=location, help="the mechanism of an image, or a run")
    parser.add_argument("--oracle", type=location, help="predicts attributes (default: the run's or bundled)")
    parser.add_argument("--attributes", type=location, help="learned mechanisms (default: the run's or bundled)")
    parser.add_argument("--n", type=int, default=Recipe.trust, help="images, at most (default: %(default)s)")
    add_source(parser)
    args = parser.parse_args()
    source = find_source(args)
    try:
        model = load(args.checkpoint, None, args.oracle, args.attributes)
        for path, reference in complete(model, source, args.n):
            print(f"{path}: {reference.n} images of the {reference.split} split")
            if reference.noise and len(reference.noise.distances) < ENOUGH:
                print(f"{path}: fewer than {2 * ENOUGH} images: no noise can be called unlike the training data")
    except InputError as error:
        parser.exit(2, f"error: {error.typed(lambda name: '--' + name.replace('_', '-'))}\n")


def complete(model: Model, source: Source, n: int) -> Iterator[tuple[Path, Reference]]:
    """Add a reference to the checkpoints of an image and of its own oracle, at the settings that the model has.

    Args:
        model: the model.
        source: the place of the data set; how images are read is as in the training.
        n: images, at most.

    Yields:
        The path of each checkpoint, and what it was given.

    Raises:
        InputError: the data are missing.
    """
    split, data = read_held_out(model, source)
    splits = {split: {name: value.to(model.device) for name, value in data.items()}}
    seed = model.checkpoint.settings.get("seed", 0)
    reference = refer(model.graph, model.mechanism, splits, n, seed, model.learned)
    if reference:
        checkpoint.add_reference(model.checkpoint.path, "image", reference)
        yield model.checkpoint.path, reference
    oracle = model.oracle_checkpoint
    if oracle is None or (_is_bundled(oracle.path) and not _is_bundled(model.checkpoint.path)):
        return
    if errors := refer(model.graph, oracle.model, splits, n):
        checkpoint.add_reference(oracle.path, "oracle", errors)
        yield oracle.path, errors


def _is_bundled(path: Path) -> bool:
    """Tell whether a checkpoint came with this package, whose files another model's reference must not change."""
    return FOLDER.resolve() in path.resolve().parents


if __name__ == "__main__":
    main()
