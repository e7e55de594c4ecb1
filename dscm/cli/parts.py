"""Which graph, mechanism, attributes and oracle a command line means."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from dscm import assets, checkpoint, runs
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.causal.graph_file import GRAPHS, get_graph, read_graph
from dscm.causal.learned import LearnedAttributes
from dscm.oracle import Oracle


def add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data`` and ``--graph``, which `choose_graph` reads."""
    parser.add_argument(
        "--data", help=f"the data set and its graph: {', '.join(GRAPHS)}; or folder (default: morphomnist)"
    )
    _add_own_graph(parser)


def _add_own_graph(parser: argparse.ArgumentParser) -> None:
    """Add ``--graph``."""
    parser.add_argument("--graph", type=Path, metavar="JSON", help="your own causal graph, for --data folder")


def choose_graph(args: argparse.Namespace) -> Graph:
    """Return the graph that ``--graph`` or ``--data`` asks for, and complete ``--data`` with its name.

    Raises:
        InputError: there is no such graph, the file is wrong, or the two do not fit.
    """
    if args.graph is None and args.data is None and args.run and (args.run / runs.GRAPH).exists():
        args.graph = args.run / runs.GRAPH
    if args.graph is None:
        if args.data == "folder":
            raise InputError("--data folder: give its causal graph with --graph")
        graph = get_graph(args.data or "morphomnist")
    else:
        graph = read_graph(args.graph)
        if args.data not in (None, graph.data_set):
            raise InputError(f"--data {args.data}: {args.graph} is a graph for --data {graph.data_set}")
    args.data = graph.name
    return graph


def add_parts_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--graph``, ``--run``, ``--oracle`` and ``--attributes``, which `choose_parts` completes."""
    _add_own_graph(parser)
    parser.add_argument("--run", type=Path, help="a folder that train.py --run made: take its parts")
    parser.add_argument(
        "--data",
        help=f"which bundled model: {', '.join(assets.SAMPLES)}; or folder, for a graph of your own (default: that of "
        "--checkpoint, or morphomnist)",
    )
    parser.add_argument("--oracle", type=Path, metavar="CKPT", help="predicts what is not measured (default: bundled)")
    parser.add_argument(
        "--attributes",
        type=Path,
        metavar="CKPT",
        help="the mechanisms of attributes that train.py --part attributes fitted, where the graph has any "
        "(default: bundled)",
    )


def choose_checkpoints(args: argparse.Namespace, parts: Sequence[assets.Part]) -> list[Path]:
    """Return the mechanism of the image of ``--run``, or the bundled ones of ``--data``.

    Args:
        args: the command line.
        parts: ``semantic``, ``spatial`` or both, of which at least one is bundled.

    Raises:
        InputError: the run has none, there is no such graph, or none of its models is bundled.
    """
    if args.run:
        path = runs.find_part(args.run, "image")
        if path is None:
            raise InputError(f"--run {args.run}: no mechanism of the image is there; train it with --part image")
        return [path]
    name = args.data or "morphomnist"
    if args.graph or name == "folder":
        raise InputError("a model of your own graph is given with --run, or with --checkpoint and --oracle")
    graph = get_graph(name)
    found = [path for path in (assets.find(part, graph) for part in parts) if path]
    if not found:
        raise InputError(f"--data {name}: no such model is bundled; train one, and give it with --checkpoint")
    return found


def choose_parts(args: argparse.Namespace, graph: Graph) -> None:
    """Complete the command line with the bundled oracle and attributes of the graph of the image's mechanism.

    Raises:
        InputError: ``--data`` or ``--graph`` is another graph, or there is no oracle where one is needed.
    """
    if args.data not in (None, graph.name) and (graph.built_in or args.data != graph.data_set):
        raise InputError(f"--data {args.data}: the checkpoint is of {graph.name}")
    if args.graph and read_graph(args.graph).key != graph.key:
        raise InputError(f"--graph {args.graph}: the checkpoint was trained with another graph, {graph.name}")
    for part in ("oracle", "attributes"):
        if getattr(args, part) is None:
            setattr(args, part, runs.find_other(args.run, part, graph))
    if args.oracle is None:
        names = ", ".join(variable.name for variable in graph.predicted)
        raise InputError(
            f"{names}: predicted by an oracle, and none of {graph.name} is bundled; give one with --oracle"
        )


def restore_attributes(graph: Graph, path: Path | None, device: torch.device) -> LearnedAttributes | None:
    """Restore the learned mechanisms of a graph's attributes; None where it has none.

    Raises:
        InputError: there are some and no checkpoint was given, it is of another graph, or one was given for none.
    """
    if not graph.learned:
        if path is not None:
            raise InputError(f"--attributes {path}: no mechanism of {graph.name} is learned")
        return None
    if path is None:
        names = ", ".join(variable.name for variable in graph.learned)
        raise InputError(f"the mechanism of {names} is learned: give its checkpoint with --attributes")
    learned, content = checkpoint.restore(path, "attributes", device)
    if content["graph"] != graph.key:
        raise InputError(f"--attributes {path}: fitted for {get_graph(content['graph']).name}, not {graph.name}")
    return learned


def restore_oracle(graph: Graph, path: Path, device: torch.device) -> Oracle:
    """Restore an oracle for the attributes of a graph that are not measured.

    Raises:
        InputError: it does not predict all of them.
    """
    oracle, _ = checkpoint.restore(path, "oracle", device)
    missing = [variable.name for variable in graph.predicted if variable.name not in oracle.sizes]
    if missing:
        known = ", ".join(oracle.sizes) or "nothing"
        raise InputError(f"--oracle {path}: predicts {known}; {graph.name} needs {', '.join(missing)}")
    return oracle
