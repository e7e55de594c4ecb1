"""Choose the guidance of a model on validation images: weights and noise levels, for every intervention of its graph.

    python -m dscm.cli.guidance CKPT --data-dir D --weights 2 3 4 6 --intervals 0.2:3 0.3:20 1:40 --keep

One table for each intervention: how effective each setting is, whether it leaves other attributes alone, the
composition at that guidance, identity, and the reversal through 8 bits. The chosen setting has the least composition
among those whose effectiveness is within 2 points of the best, or reaches --target. --keep writes the choices into the
checkpoint, with the settings that are typed: every command takes them then, where nothing else is chosen. Measure
afterwards what answers are compared with (python -m dscm.cli.trust), which depends on them.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from tqdm import tqdm

from dscm import checkpoint
from dscm.cli.arguments import Arguments, Parser, add_machine, add_source, find_source, number, say, start
from dscm.cli.held_out import read_held_out
from dscm.cli.models import add_model_arguments, load_model
from dscm.cli.sampling import ALIGNMENT, configure, note_guidance
from dscm.cli.script import one_line_errors
from dscm.data.scaling import l1
from dscm.data.sets import Source, Split
from dscm.diffusion.guidance import Interval, Intervals
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.evaluation.lpips import load_lpips
from dscm.evaluation.protocol import Judge
from dscm.evaluation.sweep import Choice, Sweep, choose, combine, pick, tabulate
from dscm.evaluation.tables import SPLITS
from dscm.evaluation.task import set_task
from dscm.machine import USUAL
from dscm.model import Model
from dscm.runs import find_data

CHOSEN = ("guidance", "guidance_interval", "abduction", "published", *ALIGNMENT)  # by this command, or of no use to it
WEIGHTS, INTERVALS = (2.0, 3.0, 4.0, 6.0), ((0.2, 3.0), (0.3, 20.0), (1.0, 40.0), (1.0, 1000.0))
IMAGES = 128


def make_parser() -> Parser:
    """Declare the command line."""
    parser = Parser(__doc__, (Sampling,), without=CHOSEN)
    parser.prog = "python -m dscm.cli.guidance"
    add_model_arguments(parser, first=True)
    group = parser.add_argument_group("choice")
    weight = number(float, 0, open_low=True)
    group.add_argument("--weights", type=weight, nargs="+", default=WEIGHTS, metavar="ω",
                       help="of what is intervened on (default: 2 3 4 6)")  # fmt: skip
    group.add_argument("--intervals", type=interval, nargs="+", default=INTERVALS, metavar="LOW:HIGH",
                       help="noise levels at which it is guided (default: 0.2:3 0.3:20 1:40 1:1000)")  # fmt: skip
    group.add_argument("--n", type=number(int, 2), default=IMAGES, metavar="N",
                       help="images of each intervention, at most; of a binary variable half with each value, where "
                       "there are as many (default: %(default)s)")  # fmt: skip
    words = "effectiveness that is enough: a share, or 1 minus an error in standard deviations"
    group.add_argument("--target", type=number(float, 0, 1), default=float("inf"), metavar="X", help=words)
    group.add_argument("--keep", action="store_true", help="write the choices into the checkpoint")
    parser.add_fields(parser.add_argument_group("abduction and prediction"), Sampling, "steps")
    add_source(parser)
    add_machine(parser).add_argument(
        "--batch", type=number(int, 1), default=USUAL, metavar="N", help="images at a time (default: %(default)s)"
    )
    return parser


def interval(text: str) -> Interval:
    """Read ``LOW:HIGH``; an argparse type."""
    try:
        found = Intervals.read(text)
    except InputError:
        found = None
    if found is None or found.groups:
        raise argparse.ArgumentTypeError(f"'{text}' must be LOW:HIGH, two numbers in order, at least 0")
    return found.others


def run(parser: Parser) -> None:
    """Measure the settings that the command line means, print the tables, and keep the choices."""
    args = parser.read()
    model = check(configure(load_model(args, start(args).device), args.settings))
    split, data = read_held_out(model, find_place(args))
    choices = [Choice(*pair) for pair in itertools.product(args.weights, args.intervals)]
    for choice in choices:
        model.using(**choice.settings)  # before anything is measured
    sweeps = list(prepare(model, data, args))
    say(note_guidance(model, [f"do={max(args.weights):g}"]), parser)
    chosen = {}
    with tqdm(total=len(choices) * sum(len(sweep.starts) for sweep in sweeps), unit="batch") as bar:
        for sweep in sweeps:
            bar.set_description(sweep.name)
            scores = sweep.run(choices, bar.update)
            chosen[sweep.name] = choose(scores, args.target)
            bar.write(f"{write_title(sweep, split)}\n\n{tabulate(scores, chosen[sweep.name])}\n", sys.stdout)
    settings = combine(chosen, model.graph)
    sampling = model.using(**settings).mechanism.sampling
    print(f"--guidance {sampling.weights} --guidance-interval {sampling.intervals}")
    if args.keep:
        keep(model, args.settings, settings)
        print(f"{model.checkpoint.path}: kept")


def check(model: Model) -> Model:
    """Return a model whose guidance can be chosen.

    Raises:
        InputError: it has none, or its abduction depends on it.
    """
    mechanism = model.mechanism
    if not isinstance(mechanism, DiffusionMechanism):
        raise InputError(f"{model.checkpoint.path}: {mechanism.kind} has no guidance")
    if mechanism.sampling.guides_abduction:
        words = "depends on guidance; it is chosen for semantic abduction"
        raise InputError(f"{model.checkpoint.path}: {option('abduction')} {mechanism.sampling.abduction}: {words}")
    return model


def find_place(args: Arguments) -> Source:
    """Return the place of the data: as typed, or as the run folder knows it."""
    source, run = find_source(args), args.run or args.checkpoint
    if source.data_dir is not None or run is None or not run.is_dir():
        return source
    data_dir, csv = find_data(run)
    return replace(source, data_dir=data_dir, csv=source.csv or csv)


def prepare(model: Model, data: Mapping[str, Tensor], args: Arguments) -> Iterator[Sweep]:
    """Yield the measurements of every intervention, each on images of its own.

    Args:
        model: the model.
        data: images and attributes of a split, on the CPU.
        args: the command line.

    Raises:
        InputError: too few values differ.
    """
    lpips, reason = load_lpips(model.device)
    if lpips is None:
        print(f"LPIPS is left out: the weights of AlexNet cannot be had ({reason})", file=sys.stderr)
    judge = Judge(model.graph, model.oracle, {"l1": l1} | ({"lpips": lpips} if lpips else {}))
    spread = {v.name: data[v.name].float().std().item() for v in model.graph.attributes if not v.discrete}
    for name in model.graph.interventions:
        chosen = pick(model.graph.variable(name), data[name], args.n)
        some = {variable: value[chosen].to(model.device) for variable, value in data.items()}
        task = set_task(model.graph, some, "different", args.seed, None, model.learned)
        yield Sweep(model, judge, task, name, spread, args.seed, args.batch)


def write_title(sweep: Sweep, split: Split) -> str:
    """Say what a table was measured on."""
    graph, obs, sampling = sweep.model.graph, sweep.task.obs, sweep.model.mechanism.sampling
    variable, n = graph.variable(sweep.name), len(obs["image"])
    having = f", {int(obs[sweep.name].sum())} of which have it" if variable.kind == "binary" else ""
    read = sweep.judge.read(obs["image"])[sweep.name]
    right = (read == obs[sweep.name]).double().mean().item() if variable.discrete else None
    reading = "" if right is None else f"; read as recorded on {100 * right:.1f}% of them"
    return (
        f"do({', '.join(graph.interventions[sweep.name])}): {n} {SPLITS[split]} images{having}{reading}; "
        f"{sampling.count} steps to σ = {sampling.lowest:g}, seed {sweep.seed}. Distances ×10⁻², identity to the "
        "composition, which is guided likewise."
    )


def keep(model: Model, typed: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Write settings into the checkpoint, beside those that it has.

    Args:
        model: with the settings that were typed.
        typed: these.
        chosen: those that were measured.

    Raises:
        InputError: the model cannot be guided so.
    """
    sampling = model.using(**chosen).mechanism.sampling
    values = {name: getattr(sampling, name) for name in typed}
    checkpoint.add_sampling(model.checkpoint.path, {**model.checkpoint.sampling, **values, **chosen})


def main() -> None:
    """Run the script, on the command line that Python was started with."""
    parser = make_parser()
    with one_line_errors(parser.show):
        run(parser)


if __name__ == "__main__":
    main()
