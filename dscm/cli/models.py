"""The models that a command line means."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dscm import assets
from dscm.cli.arguments import location
from dscm.data.framing import Fit
from dscm.errors import InputError, option
from dscm.graphs import GRAPHS, get_graph
from dscm.model import Model, load


def add_model_arguments(parser: argparse.ArgumentParser, several: bool = False, first: bool = False) -> None:
    """Add ``--data``, ``--run``, ``--checkpoint``, ``--oracle`` and ``--attributes``.

    Args:
        parser: the parser of the script.
        several: take a list of checkpoints.
        first: the checkpoint is typed without a flag.
    """
    group = parser.add_argument_group("model")
    many: dict[str, Any] = {"nargs": "+"} if several else {"nargs": "?"} if first else {}
    flag = "checkpoint" if first else "--checkpoint"
    group.add_argument("--data", metavar="NAME", help=f"a bundled model: {', '.join(assets.SAMPLES)} "
                       "(default: morphomnist)")  # fmt: skip
    group.add_argument("--run", type=location, metavar="DIR", help="a folder made by train.py --run: all its parts")
    group.add_argument(flag, type=location, metavar="CKPT", help="the mechanism of the image", **many)
    group.add_argument(
        "--oracle", type=location, metavar="CKPT", help="predicts attributes (default: the run's or bundled)"
    )
    group.add_argument("--attributes", type=location, metavar="CKPT",
                       help="learned mechanisms of attributes (default: the run's or bundled)")  # fmt: skip


def load_model(args: argparse.Namespace, device: torch.device, fit: Fit | None = None) -> Model:
    """Load the one model that a command line means, with images squared as ``fit`` says.

    Raises:
        InputError: there is no such model, or its parts do not belong together.
    """
    source = args.checkpoint or _source(args)
    return _checked(args, load(source, device, args.oracle, args.attributes, args.run, fit))


def load_models(args: argparse.Namespace, device: torch.device) -> list[Model]:
    """Load all models that a command line means: the checkpoints, the run's, or the bundled ones of a graph.

    Raises:
        InputError: there is no such model, or its parts do not belong together.
    """
    sources: Sequence[Path | str] = args.checkpoint or [_source(args)]
    if not args.checkpoint and not args.run:
        name = args.data or "morphomnist"
        graph = get_graph(name)
        sources = [path for part in ("semantic", "spatial") if (path := assets.find(part, graph))] or [name]
    return [_checked(args, load(source, device, args.oracle, args.attributes, args.run)) for source in sources]


def _source(args: argparse.Namespace) -> Path | str:
    """Return the run, or the name of a bundled model."""
    if args.data == "folder" and not args.run:
        raise InputError(
            f"{option('data')} folder: give the model with {option('run')}, or with {option('checkpoint')} and "
            f"{option('oracle')}"
        )
    if args.run:
        return args.run
    if args.data and args.data not in GRAPHS:
        get_graph(args.data)  # names what is wrong
    return args.data or "morphomnist"


def _checked(args: argparse.Namespace, model: Model) -> Model:
    """Refuse a model of another graph than ``--data`` names, or without the oracle that it needs."""
    graph = model.graph
    if args.data not in (None, graph.name) and (graph.built_in or args.data != graph.data_set):
        raise InputError(f"{option('data')} {args.data}: the checkpoint is of {graph.name}")
    model.require_oracle()
    return model
