"""Add to checkpoints what their training data said of the parents: ``python -m dscm.cli.support CKPT --data-dir D``.

Trainings write it themselves; this is for checkpoints of earlier versions. The weights stay as they are.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from dscm import checkpoint
from dscm.causal.support import Support
from dscm.cli.arguments import add_source, find_source, location
from dscm.data.framing import Framing
from dscm.data.sets import Source, get_data_set
from dscm.errors import InputError


def main() -> None:
    """Parse the command line and complete the checkpoints."""
    parser = argparse.ArgumentParser(prog="python -m dscm.cli.support", description=__doc__)
    parser.add_argument("checkpoint", type=location, nargs="+", help="a checkpoint of train.py")
    parser.add_argument("--part", choices=("image", "attributes"), default="image", help="default: image")
    add_source(parser)
    args = parser.parse_args()
    source = find_source(args)
    try:
        for path in args.checkpoint:
            support = complete(path, args.part, source)
            print(f"{path}: {len(support.rows)} different rows of {support.n} training images")
    except InputError as error:
        parser.exit(2, f"error: {error.typed(lambda name: '--' + name.replace('_', '-'))}\n")


def complete(path: Path, part: checkpoint.Part, source: Source) -> Support:
    """Add the support to a checkpoint, from the training split of its data set.

    Args:
        path: the checkpoint.
        part: what it holds.
        source: the place of the data set; how images are read is as in the training.

    Raises:
        InputError: the checkpoint is damaged or holds another part, or the data are missing.
    """
    restore = checkpoint.restore_image if part == "image" else checkpoint.restore_attributes
    graph, settings = (restored := restore(path, torch.device("cpu"))).graph, restored.settings
    framing = Framing.of(settings, graph.data_set)
    mixture = settings.get("mixture", True)
    read = replace(source, framing=framing, mixture=mixture)
    data = get_data_set(graph, read).load("train", settings.get("size") or graph.image_size)
    generator = torch.Generator().manual_seed(settings.get("seed", 0))
    support = Support.fit(checkpoint.list_supported(part, graph), data, generator)
    checkpoint.add_support(path, part, support)
    return support


if __name__ == "__main__":
    main()
