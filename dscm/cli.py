"""What the three scripts' command lines have in common."""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dscm import assets, checkpoint, runs
from dscm.data.mammogram import Framing
from dscm.data.sets import Source
from dscm.dynamic import Alignment
from dscm.errors import InputError
from dscm.graph import Graph
from dscm.graphs import GRAPHS, get_graph, read_graph
from dscm.image import DiffusionMechanism, Sampling
from dscm.learned import LearnedAttributes
from dscm.oracles import Oracle

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
    parser.add_argument("--csv", type=Path, nargs="+", default=[], metavar="CSV", help="EMBED's one or two CSV files")
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
    """Gather where the data set lies, and how a model of these settings reads it."""
    return Source(
        args.data_dir,
        args.cache_dir,
        tuple(args.csv),
        Framing.of(settings),
        args.skip_missing,
        workers=os.cpu_count() or 1,
    )


def add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data`` and ``--graph``, which `choose_graph` reads."""
    parser.add_argument(
        "--data", help=f"the data set and its graph: {', '.join(GRAPHS)}; or folder (default: morphomnist)"
    )
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
    """Add ``--data``, ``--run``, ``--oracle`` and ``--attributes``, which `choose_parts` completes."""
    parser.add_argument("--run", type=Path, help="a folder that train.py --run made: take its parts")
    parser.add_argument(
        "--data",
        help=f"which bundled model: {', '.join(assets.SAMPLES)} (default: that of --checkpoint, or morphomnist)",
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
    graph = get_graph(name)
    found = [path for path in (assets.find(part, graph) for part in parts) if path]
    if not found:
        raise InputError(f"--data {name}: no such model is bundled; train one, and give it with --checkpoint")
    return found


def choose_parts(args: argparse.Namespace, graph: Graph) -> None:
    """Complete the command line with the bundled oracle and attributes of the graph of the image's mechanism.

    Raises:
        InputError: ``--data`` names another graph, or there is no oracle where one is needed.
    """
    if args.data not in (None, graph.name):
        raise InputError(f"--data {args.data}: the checkpoint is of {graph.name}")
    for part in ("oracle", "attributes"):
        if getattr(args, part) is None:
            setattr(args, part, runs.find_part(args.run, part) if args.run else assets.find(part, graph))
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


def seed_batch(seed: int, start: int, device: torch.device) -> torch.Generator:
    """Make the generator of the batch that begins at image ``start``, whichever process it falls to."""
    return torch.Generator(device).manual_seed((seed + 1_000_003 * start) % 2**63)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how counterfactuals are computed: ``--guidance-interval``, ``--steps``, ``--grid`` and ``--fixed-point``."""
    parser.add_argument("--guidance-interval", type=number(float, 0), nargs=2, default=list(Sampling().interval),
                        metavar=("LOW", "HIGH"),
                        help="noise levels σ at which the prediction is guided; the paper's is 0 1000 "
                        "(default: 1 1000)")  # fmt: skip
    parser.add_argument("--steps", type=number(int, 1), default=50, help="DDIM steps each way (default: 50)")
    parser.add_argument("--grid", choices=["log-sigma", "uniform"], default="log-sigma",
                        help="spacing of the steps; uniform in t is the paper's (default: log-sigma)")  # fmt: skip
    parser.add_argument("--fixed-point", type=number(int, 0), default=2, metavar="N",
                        help="evaluations for each step up; 0: the paper's explicit step (default: 2)")  # fmt: skip


def add_abduction_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add what is abducted: ``--abduction``, ``--cta-lr``, ``--cta-steps`` and ``--cta-optimizer``.

    Args:
        parser: of the script.
        several: take lists of abductions and step sizes.
    """
    default = Alignment()
    many = {"nargs": "+"} if several else {}
    parser.add_argument("--abduction", choices=["semantic", "guided", "dynamic", "residual"], **many,
                        default=["semantic"] if several else "semantic",
                        help="semantic: z and u (u alone, if the checkpoint is spatial); guided: u by inverting the "
                        "guided field; dynamic: and one null token a step, aligned; residual: and what each guided "
                        "step lacks (default: semantic)")  # fmt: skip
    parser.add_argument("--cta-lr", type=number(float, 0, open_low=True), metavar="η", **many,
                        default=[default.rate] if several else default.rate,
                        help=f"step size of the alignment (default: {default.rate:g})")  # fmt: skip
    parser.add_argument("--cta-steps", type=number(int, 1), default=default.steps, metavar="N",
                        help="gradient steps at each timestep (default: 1, the paper's)")  # fmt: skip
    parser.add_argument("--cta-optimizer", choices=["sgd", "adam"], default=default.optimiser,
                        help="of the alignment (default: sgd, the paper's)")  # fmt: skip


def read_sampling(args: argparse.Namespace, guidance: float, abduction: str, rate: float) -> Sampling:
    """Gather the settings of abduction and prediction; those that a script may list are given apart.

    Raises:
        InputError: the guidance interval is empty.
    """
    low, high = args.guidance_interval
    if low > high:
        raise InputError(f"--guidance-interval {low:g} {high:g}: the first must not be above the second")
    alignment = Alignment(rate, args.cta_steps, args.cta_optimizer)
    return Sampling(
        guidance, (low, high), args.steps, args.grid, args.fixed_point, abduction=abduction, alignment=alignment
    )


def check_null_token(path: Path, p_null: float, guidance: Sequence[float], abduction: Sequence[str]) -> None:
    """Refuse to guide, or to align the guidance of, a mechanism that never saw its null token.

    Args:
        path: the checkpoint.
        p_null: p_∅ of its training.
        guidance: every ω that is asked for.
        abduction: every abduction that is asked for.

    Raises:
        InputError: p_∅ is 0, and an ω is not 1 or an abduction is not semantic.
    """
    if p_null == 0 and set(abduction) != {"semantic"}:
        raise InputError(f"{path}: trained without a null token (--p-null 0); --abduction must be semantic")
    if p_null == 0 and set(guidance) != {1.0}:
        raise InputError(f"{path}: trained without a null token (--p-null 0); --guidance must be 1")


@contextmanager
def alignment_bar(mechanism: DiffusionMechanism, disable: bool = False) -> Iterator[None]:
    """Show a bar over the timesteps of each alignment, with its loss, where there is something to align."""
    if disable or mechanism.sampling.abduction != "dynamic" or mechanism.sampling.guidance == 1:
        yield
        return
    silent = mechanism.watch
    with tqdm(total=mechanism.sampling.steps, desc="alignment", leave=False) as bar:

        def watch(loss: float) -> None:
            if bar.n == bar.total:
                bar.reset()
            bar.set_postfix(loss=f"{loss:.2e}", refresh=False)
            bar.update()

        mechanism.watch = watch
        try:
            yield
        finally:
            mechanism.watch = silent


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
    return torch.device(device)


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
