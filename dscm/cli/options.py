"""What the command lines of counterfactual.py and evaluate.py say about how counterfactuals are computed."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dscm.baselines.diffscm import DiffSCM
from dscm.cli.arguments import number, warn_of_emulation
from dscm.diffusion.process import SIGMA_MIN
from dscm.diffusion.alignment import Alignment
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.diffusion.guidance import DO, OTHERS, Weights
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.causal.image_mechanism import ImageMechanism
from dscm.diffusion.sampling import FOLLOWING, Sampling, usual_interval
from dscm.diffusion.solvers import Solver

ALIGNMENT = Alignment()
EVALUATIONS = {"ddim": 2, "2m": 0, "trapezoid": 1}  # of each implicit step of a solver, unless told otherwise
# What the command line leaves open, where that does not depend on anything.
DEFAULTS: Mapping[str, Any] = {
    "steps": 20,
    "grid": "log-sigma",
    "sigma_min": SIGMA_MIN,
    "tolerance": 0.0,
    "precision": "float32",
    "abduction": "semantic",
    "cta_lr": ALIGNMENT.rate,
    "cta_steps": ALIGNMENT.steps,
    "cta_optimizer": ALIGNMENT.optimiser,
}
# Options of baselines, and whose they are; then those of diffusion models, with guidance and without.
OWNERS: Mapping[str, tuple[str, ...]] = {
    "no_pixel_noise": ("vae", "hvae"),
    "sample_code": ("vae", "hvae", "vci"),
    "mix": ("hvae",),
    "classifier_scale": ("diffscm",),
}
GUIDED = ("guidance", "guidance_interval", "abduction", "cta_lr", "cta_steps", "cta_optimizer", "precision")
FAST = ("compile", "channels_last")
SOLVED = ("steps", "grid", "sigma_min", "solver", "fixed_point", "tolerance")
ALL_OWNERS: Mapping[str, tuple[str, ...]] = {
    **OWNERS,
    **dict.fromkeys((*GUIDED, *FAST), ("semantic", "spatial")),
    **dict.fromkeys(SOLVED, ("semantic", "spatial", "diffscm")),
}


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


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how counterfactuals are computed: where they are guided, the steps of the ODE, and the network's speed."""
    parser.add_argument("--guidance-interval", type=number(float, 0), nargs=2, metavar=("LOW", "HIGH"),
                        help="noise levels σ at which the prediction is guided; the paper's is 0 1000 "
                        "(default: of digits 1 1000, of larger images 0.2 3)")  # fmt: skip
    parser.add_argument("--steps", type=number(int, 1), help="steps each way (default: 20)")
    parser.add_argument("--grid", choices=["log-sigma", "edm", "uniform"],
                        help="spacing of the steps; uniform in t, the paper's, is for --fixed-point 0, or hundreds "
                        "of steps (default: log-sigma)")  # fmt: skip
    parser.add_argument("--sigma-min", type=number(float, 0, 1), metavar="σ", help="noise level at which images enter "
                        "and leave, at least 0.001; or 0, the paper's, for --fixed-point 0 on a uniform or edm grid "
                        f"(default: {SIGMA_MIN:g})")  # fmt: skip
    parser.add_argument("--solver", choices=list(EVALUATIONS),
                        help="of the ODE: ddim, the paper's; 2m, of second order; trapezoid, of second order and exact "
                        "(default: ddim where an abduction is dynamic or residual, else trapezoid)")  # fmt: skip
    parser.add_argument("--fixed-point", type=number(int, 0), metavar="N",
                        help="evaluations for each implicit step, at most: of ddim those up, of trapezoid all; 0: the "
                        "paper's explicit step (default: ddim 2, trapezoid 1)")  # fmt: skip
    parser.add_argument("--tolerance", type=number(float, 0), metavar="X",
                        help="leave an image alone once an implicit step moves its pixels, in [-1, 1], by less "
                        "(default: 0)")  # fmt: skip
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="of the network; steps and sums stay "
                        "float32; not every CPU computes in bfloat16 (default: float32)")  # fmt: skip
    parser.add_argument("--compile", action="store_const", const=True, help="compile the network, which takes half a "
                        "minute for each size of batch and, on a CPU, a C++ compiler: for many images")  # fmt: skip
    parser.add_argument("--channels-last", action="store_const", const=True, help="keep the network's channels "
                        "innermost in memory: faster on a CPU in float32, slower there in bfloat16")  # fmt: skip


def complete_sampling(args: argparse.Namespace, mechanism: ImageMechanism) -> None:
    """Fill in what the command line leaves to its defaults; until then it is None, as `check_own_options` expects.

    Args:
        args: the command line; abductions that it lists share a solver, so that they can be compared.
        mechanism: of the image, or one of several alike.
    """
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    abductions = {args.abduction} if isinstance(args.abduction, str) else set(args.abduction)
    args.solver = args.solver or ("ddim" if abductions & set(FOLLOWING) else "trapezoid")
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
    """Add what only some baselines know: those of `OWNERS`."""
    parser.add_argument("--no-pixel-noise", action="store_const", const=True,
                        help="of a VAE or HVAE: keep the latents alone")  # fmt: skip
    parser.add_argument("--sample-code", action="store_const", const=True,
                        help="of a VAE, HVAE or VCI: abduct a sample of the latents, not their mean")  # fmt: skip
    parser.add_argument("--mix", type=number(float, 0, 1), metavar="π",
                        help="of an HVAE: share of the latents' prior under the new parents (default: 0)")  # fmt: skip
    parser.add_argument("--classifier-scale", type=number(float, 0), metavar="s",
                        help="of DiffSCM: weight of the classifier's gradient (default: 30)")  # fmt: skip


def add_abduction_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add what is abducted: ``--abduction``, ``--abduct-guidance``, ``--cta-lr``, ``--cta-steps``, ``--cta-optimizer``.

    Args:
        parser: of the script.
        several: take lists of abductions and step sizes.
    """
    many = {"nargs": "+"} if several else {}
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--abduction", choices=["semantic", "guided", "dynamic", "residual"], **many,
                        help="semantic: z and u (u alone, if the checkpoint is spatial); guided: u by inverting the "
                        "guided field; dynamic: and one null token a step, aligned; residual: and what each guided "
                        "step lacks (default: semantic)")  # fmt: skip
    either.add_argument("--abduct-guidance", dest="abduction", action="store_const", help="--abduction guided",
                        const=["guided"] if several else "guided")  # fmt: skip
    parser.add_argument("--cta-lr", type=number(float, 0, open_low=True), metavar="η", **many,
                        help=f"step size of the alignment (default: {ALIGNMENT.rate:g})")  # fmt: skip
    parser.add_argument("--cta-steps", type=number(int, 1), metavar="N",
                        help="gradient steps at each timestep (default: 1, the paper's)")  # fmt: skip
    parser.add_argument("--cta-optimizer", choices=["sgd", "adam"],
                        help="of the alignment (default: sgd, the paper's)")  # fmt: skip


def read_sampling(args: argparse.Namespace, guidance: Weights, abduction: str, rate: float) -> Sampling:
    """Gather the settings of abduction and prediction; those that a script may list are given apart.

    Raises:
        InputError: the guidance interval is empty, or abduction, solver, σ_min and guidance do not go together.
    """
    low, high = args.guidance_interval
    if low > high:
        raise InputError(f"--guidance-interval {low:g} {high:g}: the first must not be above the second")
    alignment = Alignment(rate, args.cta_steps, args.cta_optimizer)
    solver = read_solver(args)
    try:
        return Sampling(guidance, (low, high), args.steps, args.grid, args.sigma_min, solver,
                        precision=args.precision, abduction=abduction, alignment=alignment)  # fmt: skip
    except ValueError as error:
        about = f"--abduction {abduction} --solver {args.solver} --sigma-min {args.sigma_min:g}"
        raise InputError(f"{about}: {error}") from error


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
        mechanism.sampling = read_sampling(args, Weights(1.0), "semantic", rate)
    own = own_options(args, mechanism.kind)
    if "no_pixel_noise" in own:
        mechanism.pixel_noise = False
    if "sample_code" in own:
        mechanism.sample_code = True
    if "mix" in own:
        mechanism.mix = args.mix
    if "classifier_scale" in own:
        mechanism.scale = args.classifier_scale


def own_options(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Return, of the options of `OWNERS`, those given for this kind."""
    given = {name: getattr(args, name) for name, kinds in OWNERS.items() if kind in kinds}
    return {name: value for name, value in given.items() if value is not None}


def check_own_options(
    args: argparse.Namespace, mechanisms: Sequence[ImageMechanism], except_for: Sequence[str] = ()
) -> None:
    """Refuse an option that none of the mechanisms knows, before `complete_sampling` fills the others in.

    Args:
        args: the command line.
        mechanisms: all of them.
        except_for: options that say something else as well.

    Raises:
        InputError: one was given.
    """
    kinds = {mechanism.kind for mechanism in mechanisms}
    for name, owners in ALL_OWNERS.items():
        if name not in except_for and getattr(args, name) is not None and not kinds & set(owners):
            flag, found = f"--{name.replace('_', '-')}", ", ".join(sorted(kinds))
            raise InputError(f"{flag}: not known to {found}; an option of {', '.join(owners)}")


def check_null_token(
    path: Path,
    mechanism: ImageMechanism,
    content: Mapping[str, Any],
    guidance: Sequence[Weights],
    abduction: Sequence[str],
) -> None:
    """Refuse to guide, or to align the guidance of, a mechanism that never saw its null token.

    Args:
        path: the checkpoint.
        mechanism, content: what it holds.
        guidance: every ω that is asked for.
        abduction: every abduction that is asked for.

    Raises:
        InputError: p_∅ is 0, and an ω is not 1 or an abduction is not semantic.
    """
    untrained = isinstance(mechanism, DiffusionMechanism) and content.get("settings", {}).get("p_null") == 0
    if untrained and set(abduction) != {"semantic"}:
        raise InputError(f"{path}: trained without a null token (--p-null 0); --abduction must be semantic")
    if untrained and not all(weights.trivial for weights in guidance):
        raise InputError(f"{path}: trained without a null token (--p-null 0); --guidance must be 1")


def speed_up(args: argparse.Namespace, mechanisms: Sequence[ImageMechanism], device: torch.device) -> None:
    """Lay out and compile the noise predictors as asked for; warn of a precision that this machine only emulates."""
    if args.precision == "bfloat16":
        warn_of_emulation(device)
    networks = [mechanism.unet for mechanism in mechanisms if isinstance(mechanism, DiffusionMechanism)]
    for network in networks:
        if args.channels_last:
            network.to(memory_format=torch.channels_last)
        if args.compile:
            network.compile(dynamic=False)  # kernels for any size are no faster than none


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
