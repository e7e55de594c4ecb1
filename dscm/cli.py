"""What the three scripts' command lines have in common."""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dscm import runs
from dscm.baselines.diffscm import DiffSCM
from dscm.data.mammogram import Framing
from dscm.data.sets import Source
from dscm.dynamic import Alignment
from dscm.errors import InputError
from dscm.graph import Graph
from dscm.guidance import DO, OTHERS, Weights
from dscm.image import FOLLOWING, DiffusionMechanism, Sampling, usual_interval
from dscm.image_mechanism import ImageMechanism
from dscm.solvers import Solver

EVALUATIONS = {"ddim": 2, "2m": 0, "trapezoid": 1}  # of each implicit step of a solver, unless told otherwise
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


def weights(text: str) -> Weights:
    """Read guidance weights; an argparse type."""
    try:
        return Weights.parse(text)
    except ValueError:
        form = "a number, more than 0, or as NAME=3,others=1"
        raise argparse.ArgumentTypeError(f"'{text}' must be {form}") from None


def check_weights(several: Sequence[Weights], graph: Graph) -> None:
    """Refuse guidance weights of what does not cause the image.

    Raises:
        InputError: one was given.
    """
    for name in (name for weights in several for name, _ in weights.own):
        if name not in (DO, *graph.image_parents):
            known = ", ".join((*graph.image_parents, DO, OTHERS))
            raise InputError(f"--guidance {name}: no parent of the image of {graph.name}; known: {known}")


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


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how counterfactuals are computed: ``--guidance-interval``, ``--steps``, ``--grid``, ``--solver``,
    ``--fixed-point`` and ``--tolerance``."""
    parser.add_argument("--guidance-interval", type=number(float, 0), nargs=2, metavar=("LOW", "HIGH"),
                        help="noise levels σ at which the prediction is guided; the paper's is 0 1000 "
                        "(default: of digits 1 1000, of larger images 0.2 3)")  # fmt: skip
    parser.add_argument("--steps", type=number(int, 1), default=20, help="steps each way (default: 20)")
    parser.add_argument("--grid", choices=["log-sigma", "edm", "uniform"], default="log-sigma",
                        help="spacing of the steps; uniform in t is the paper's (default: log-sigma)")  # fmt: skip
    parser.add_argument("--solver", choices=list(EVALUATIONS),
                        help="of the ODE: ddim, the paper's; 2m, of second order; trapezoid, of second order and exact "
                        "(default: ddim where an abduction is dynamic or residual, else trapezoid)")  # fmt: skip
    parser.add_argument("--fixed-point", type=number(int, 0), metavar="N",
                        help="evaluations for each implicit step, at most: of ddim those up, of trapezoid all; 0: the "
                        "paper's explicit step (default: ddim 2, trapezoid 1)")  # fmt: skip
    parser.add_argument("--tolerance", type=number(float, 0), default=0.0, metavar="X",
                        help="leave an image alone once an implicit step moves its pixels, in [-1, 1], by less "
                        "(default: 0)")  # fmt: skip


def choose_sampling(args: argparse.Namespace, mechanism: ImageMechanism, abductions: Sequence[str]) -> None:
    """Fill in the solver and the guidance interval where none was given.

    Args:
        args: the command line.
        mechanism: of the image, or one of several alike.
        abductions: all that are asked for; they share a solver, so that they can be compared.
    """
    args.solver = args.solver or ("ddim" if set(abductions) & set(FOLLOWING) else "trapezoid")
    args.guidance_interval = args.guidance_interval or list(usual_interval(mechanism.shape[-1]))


def read_solver(args: argparse.Namespace) -> Solver:
    """Gather the solver's settings.

    Raises:
        InputError: they do not go together.
    """
    evaluations = EVALUATIONS[args.solver] if args.fixed_point is None else args.fixed_point
    try:
        return Solver(args.solver, evaluations, args.tolerance)
    except ValueError as error:
        raise InputError(f"--solver {args.solver} --fixed-point {evaluations}: {error}") from error


def add_baseline_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only some baselines know: ``--no-pixel-noise``, ``--mix`` and ``--classifier-scale``."""
    parser.add_argument("--no-pixel-noise", action="store_const", const=True,
                        help="of a VAE or HVAE: keep the latents alone")  # fmt: skip
    parser.add_argument("--mix", type=number(float, 0, 1), metavar="π",
                        help="of an HVAE: share of the latents' prior under the new parents (default: 0)")  # fmt: skip
    parser.add_argument("--classifier-scale", type=number(float, 0), metavar="s",
                        help="of DiffSCM: weight of the classifier's gradient (default: 30)")  # fmt: skip


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


def read_sampling(args: argparse.Namespace, guidance: Weights, abduction: str, rate: float) -> Sampling:
    """Gather the settings of abduction and prediction; those that a script may list are given apart.

    Raises:
        InputError: the guidance interval is empty, or the solver does not go with the rest.
    """
    low, high = args.guidance_interval
    if low > high:
        raise InputError(f"--guidance-interval {low:g} {high:g}: the first must not be above the second")
    alignment = Alignment(rate, args.cta_steps, args.cta_optimizer)
    solver = read_solver(args)
    try:
        return Sampling(guidance, (low, high), args.steps, args.grid, solver, abduction=abduction, alignment=alignment)
    except ValueError as error:
        raise InputError(f"--abduction {abduction}: {error}") from error


def configure(
    mechanism: ImageMechanism, args: argparse.Namespace, guidance: Weights | None, abduction: str | None, rate: float
) -> None:
    """Tell a mechanism how to abduct and predict; an autoencoder has little to be told.

    Raises:
        InputError: as `read_sampling`.
    """
    if isinstance(mechanism, DiffusionMechanism):
        mechanism.sampling = read_sampling(args, guidance, abduction, rate)
    elif isinstance(mechanism, DiffSCM):
        chosen = {"steps": args.steps, "grid": args.grid, "solver": read_solver(args)}
        mechanism.sampling = replace(mechanism.sampling, **chosen)
    own = own_options(args, mechanism.kind)
    if "no_pixel_noise" in own:
        mechanism.pixel_noise = False
    if "mix" in own:
        mechanism.mix = args.mix
    if "classifier_scale" in own:
        mechanism.scale = args.classifier_scale


# Options of `add_baseline_arguments`, and whose they are.
OWNERS: Mapping[str, tuple[str, ...]] = {
    "no_pixel_noise": ("vae", "hvae"),
    "mix": ("hvae",),
    "classifier_scale": ("diffscm",),
}


def own_options(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Return, of the options that only some mechanisms know, those given for this kind."""
    given = {name: getattr(args, name) for name, kinds in OWNERS.items() if kind in kinds}
    return {name: value for name, value in given.items() if value is not None}


def check_own_options(args: argparse.Namespace, mechanisms: Sequence[ImageMechanism]) -> None:
    """Refuse an option that none of the mechanisms knows.

    Raises:
        InputError: one was given.
    """
    for name, owners in OWNERS.items():
        if getattr(args, name) is not None and not any(mechanism.kind in owners for mechanism in mechanisms):
            kinds = ", ".join(mechanism.kind for mechanism in mechanisms)
            raise InputError(f"--{name.replace('_', '-')}: not known to {kinds}; an option of {' and '.join(owners)}")


def check_null_token(path: Path, p_null: float, guidance: Sequence[Weights], abduction: Sequence[str]) -> None:
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
    if p_null == 0 and not all(weights.trivial for weights in guidance):
        raise InputError(f"{path}: trained without a null token (--p-null 0); --guidance must be 1")


@contextmanager
def alignment_bar(mechanism: ImageMechanism, disable: bool = False) -> Iterator[None]:
    """Show a bar over the timesteps of each alignment, with its loss, where there is something to align."""
    sampling = getattr(mechanism, "sampling", None)
    if disable or sampling is None or sampling.abduction != "dynamic" or sampling.weights.trivial:
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
    if device.startswith("cuda"):
        torch.cuda.set_device(device if ":" in device else 0)  # what records kernels asks for the current one
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
