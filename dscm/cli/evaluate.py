"""Measure the soundness of counterfactuals on test images.

    python evaluate.py --checkpoint CKPT [CKPT …] --out OUT --guidance 1 1.5 3 --steps 50
    python evaluate.py --out OUT --abduction semantic dynamic residual --set cta_lr=0.1 --figures

One record for each checkpoint, guidance and abduction: composition, reversibility, effectiveness, identity and truth
under an intervention on each single variable. OUT gets metrics.json, metrics.md, differences.csv, soundness.png, and
the numbers of every image in values/. Records that OUT holds already are not measured again, so an interrupted
evaluation continues, and a new checkpoint or setting adds its rows. torchrun shares the images among processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dscm.cli.arguments import Parser, add_data, add_machine, batch_size, location, say, start
from dscm.cli.models import add_model_arguments, load_models
from dscm.cli.sampling import SAMPLING, check_alignment, configure, note_guidance
from dscm.cli.script import one_line_errors
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.evaluation.plan import EvaluationSettings
from dscm.evaluation.report import MARKDOWN
from dscm.evaluation.runner import evaluate
from dscm.machine import leave
from dscm.model import Model
from dscm.runs import describe, find_data
from dscm.settings import setting


@dataclass(frozen=True)
class Reading:
    """How the data set is read."""

    csv: tuple[str, ...] = setting((), "CSV file of EMBED; may be repeated. Default: those at the top of its folder.")
    skip_missing: bool = setting(
        False,
        "Leave out any number of absent images instead of at most 1%; of your own data, images without a row in "
        "attributes.csv, and rows without an image or a value.",
    )


def make_parser() -> Parser:
    """Declare the command line."""
    parser = Parser(__doc__, (*SAMPLING, EvaluationSettings, Reading))
    add_model_arguments(parser, several=True)
    measured = parser.add_argument_group("evaluation")
    names = ("n", "split", "guidance", "abduction", "particles", "sampler")
    parser.add_fields(measured, EvaluationSettings, *names)
    measured.add_argument("--figures", action="store_true", help="draw the paper's panels and curves too")
    sampling = parser.add_argument_group("abduction and prediction")
    parser.add_fields(sampling, Sampling, "guidance_interval", "steps", "published")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--out", type=location, metavar="DIR", help="the folder to write, or to add to (default: RUN/soundness)"
    )
    files.add_argument("--as", dest="name", metavar="NAME", help="the checkpoints are trainings of one setting: "
                       "also give their mean, and its spread over them")  # fmt: skip
    files.add_argument("--overwrite", action="store_true", help="start over in a folder that has content")
    add_data(files)
    add_machine(parser).add_argument(
        "--batch", type=batch_size, default=64, metavar="N", help="images at a time; auto: as many as fit (default: 64)"
    )
    return parser


def run(parser: Parser) -> None:
    """Measure the rows that the command line means, and print the tables."""
    args = parser.read()
    if args.out is None and args.run is None:
        raise InputError(f"name the folder to write with {option('out')}, or a run with {option('run')}")
    check_alignment(args.settings, args.settings.get("abduction", ()))
    machine, choices = start(args), dict(args.settings)
    models: Sequence[Model] = load_models(args, machine.device)
    if choices.pop("compile", False):
        models = compile_networks(models)
    data_dir, csv = (args.data_dir, ()) if args.data_dir else find_data(args.run)
    csv, skip_missing = choices.pop("csv", csv), choices.pop("skip_missing", False)
    records = evaluate(
        models,
        args.out or args.run / "soundness",
        data_dir=data_dir,
        csv=csv,
        cache_dir=args.cache_dir,
        skip_missing=skip_missing,
        overwrite=args.overwrite,
        figures=args.figures,
        name=args.name,
        machine=machine,
        batch=args.batch,
        seed=args.seed,
        **choices,
    )
    if machine.first:
        guided = choices.get("guidance", ()), choices.get("guidance_interval")
        say([note for model in models for note in note_guidance(model, *guided)], parser)
        text = (records.folder / MARKDOWN).read_text(encoding="utf-8")
        if args.run:
            describe(args.run, "soundness", text)
        print(text)
    leave(machine)


def compile_networks(models: Sequence[Model]) -> list[Model]:
    """Compile the networks of diffusion mechanisms.

    Raises:
        InputError: there is none.
    """
    diffusion = [isinstance(model.mechanism, DiffusionMechanism) for model in models]
    if not any(diffusion):
        raise InputError(f"{option('compile')}: not a setting of {', '.join(m.mechanism.kind for m in models)}")
    return [configure(model, {"compile": True}) if compiled else model for model, compiled in zip(models, diffusion)]


def main() -> None:
    """Run the script, on the command line that Python was started with."""
    parser = make_parser()
    with one_line_errors(parser.show):
        run(parser)
