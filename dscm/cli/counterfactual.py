"""Answer queries about a folder of images: what would each image have been, had a variable been different?

    python counterfactual.py --do thickness=5 --do digit=3 --out out
    python counterfactual.py IMAGES --do digit=3,slant=0.2 --out out --guidance 3 --abduction dynamic

Each --do is one query; commas join variables into one intervention:

    NAME=3.5  NAME=label     the same value for every image
    NAME=+1.5  NAME=*0.8     the observed value + 1.5, or × 0.8
    NAME=flip                the other value of a binary variable
    NAME=soft:+1.5           such a change (+, * or flip), but of what NAME's parents make of it under the query
    NAME=@FILE.csv:COLUMN    each image's own value, from its row of FILE
    NAME=@sub/IMAGE.png      the observed value of another image of the folder

Where IMAGES has an attributes.csv, it gives the observed values of the attributes that it has columns for; the others
are measured on the images, or predicted by the oracle.

OUT gets a PNG for each image and query, counterfactuals.csv with every attribute before, after and as measured on the
result, trust.csv with how far to trust each answer, and grid.png, where doubtful answers have a frame.

With --particles, the code of each image is sampled: the answer is the mean of the counterfactuals of all samples, its
spread a column of the table and a map in grid.png. With --paste, OUT/pasted/QUERY repeats the
folder of the images, each at its own size and depth, with its opacity and profile, changed only where the query changes
it. Under torchrun, processes share the images.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from dscm import assets, settings
from dscm.causal.particles import MOST, sample_codes
from dscm.causal.scm import Effect
from dscm.cli.arguments import Arguments, Parser, add_machine, batch_size, location, number, refuse_unused, say, start
from dscm.cli.models import add_model_arguments, load_model
from dscm.cli.sampling import ALIGNMENT, INFERENCE, SAMPLING, add_sampling, configure, note_guidance
from dscm.cli.script import one_line_errors
from dscm.data.framing import Fit
from dscm.data.listing import SHEET
from dscm.errors import InputError, option
from dscm.folder.job import Job, Report, answer_folder
from dscm.folder.queries import parse_query
from dscm.folder.reader import Reader
from dscm.folder.samples import Draw, write_samples
from dscm.folder.trust import TRUST, is_doubtful, read_trust, summarise
from dscm.folder.writer import TABLE
from dscm.machine import Machine, choose_batch, leave
from dscm.model import Model
from dscm.runs import check_apart
from dscm.settings import setting

UNUSED = {  # options that would change nothing, by the one that makes it so
    "sample": (
        *("effect", "paste", "save_noise", "load_noise", "skip_missing", "particles", "abduction"),
        *("strict", "explain"),
        *(*ALIGNMENT, *INFERENCE),
    ),
    "load_noise": ("batch", "seed"),
}


@dataclass(frozen=True)
class Reading:
    """How the folder is read."""

    skip_missing: bool = setting(False, "Leave out images without a row in attributes.csv, and rows without an image "
                                  "or a value.")  # fmt: skip
    fit: Fit | None = setting(None, "How images become squares. Default: as in the training of the model.")


def make_parser() -> Parser:
    """Declare the command line."""
    parser = Parser(__doc__, (*SAMPLING, Reading))
    group = parser.add_argument_group("queries")
    words = "a folder of images (default: bundled ones)"
    group.add_argument("images", nargs="?", type=location, metavar="IMAGES", help=words)
    words = "a query; may be repeated (see above)"
    group.add_argument("--do", action="append", default=[], metavar="NAME=VALUE[,…]", help=words)
    words = "paths to the image along which a query acts: all, without mediators, through mediators (default: total)"
    group.add_argument("--effect", choices=get_args(Effect), nargs="+", action="extend", help=words)
    words = "sample the code M times: the mean and spread of M counterfactuals (default: 1, of the mean code)"
    group.add_argument("--particles", type=number(int, 1, MOST), default=1, metavar="M", help=words)
    words = "instead draw N images from the model, under the --do if there is one"
    group.add_argument("--sample", type=number(int, 1), metavar="N", help=words)
    add_model_arguments(parser)
    add_sampling(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=location, metavar="DIR", default=Path("out"), help="default: out")
    group.add_argument("--overwrite", action="store_true", help="write into a folder that has content")
    group.add_argument("--paste", action="store_true", help="also blend the changes into the images, in OUT/pasted")
    words = "keep doubtful answers in OUT/doubtful, and exit with 1 if there are any"
    group.add_argument("--strict", action="store_true", help=words)
    words = "a page of each image in OUT/explained, as PNG and HTML: what changed, and how far to trust it"
    group.add_argument("--explain", action="store_true", help=words)
    group.add_argument("--save-noise", type=location, metavar="FILE", help="keep the abducted noise for later queries")
    words = "use the noise of an earlier run about the same images, in its batches"
    group.add_argument("--load-noise", type=location, metavar="FILE", help=words)
    words = "images at a time; auto: as many as fit (default: 64)"
    add_machine(parser).add_argument("--batch", type=batch_size, default=64, metavar="N", help=words)
    return parser


def run(parser: Parser) -> int:
    """Answer every query about every image, or draw samples; returns the exit code."""
    args = parser.read()
    for owner, unused in UNUSED.items():
        if getattr(args, owner) is not None:
            refuse_unused(args, owner, unused)
    machine = start(args)
    single = [name for name in ("sample", "save_noise", "load_noise") if getattr(args, name)]
    if machine.world > 1 and single:
        raise InputError(f"{option(single[0])}: takes one process, without torchrun")
    choices = dict(args.settings)
    skip_missing, fit = choices.pop("skip_missing", False), choices.pop("fit", None)
    model = load_model(args, machine.device, fit)
    model = configure(model, sample_codes(model.mechanism, args.particles, choices))
    guidance = [choices["guidance"]] if "guidance" in choices else []
    notes = note_guidance(model, guidance, choices.get("guidance_interval"))
    if args.sample:
        code = sample(args, model, machine)
        say(notes, parser)
        return code
    if not args.do:
        raise InputError(f"nothing is asked: give a query with {option('do')}, or {option('sample')}")
    images = args.images or assets.SAMPLES.get(model.graph.data_set)
    if images is None:
        raise InputError(f"no images of {model.graph.name} are bundled: name the folder of yours")
    reader = Reader(images, model.data_set, model.mechanism.shape, model.oracle, machine.device, skip_missing)
    check_apart(args.out, images, reader.paths)
    if machine.first:
        expected = [model.data_set.expects] if args.images and model.data_set.expects else []
        say([*reader.survey(args.paste), *expected, *notes], parser)
    files = {name: getattr(args, name) for name in ("out", "overwrite", "paste", "save_noise", "load_noise")}
    files |= {name: getattr(args, name) for name in ("strict", "explain")}
    rest = {name: getattr(args, name) for name in ("batch", "seed", "particles")}
    job = Job(args.do, args.effect or ["total"], **files, **rest)
    inspector = replace(model.inspector, thorough=args.strict or args.explain)
    report = answer_folder(model.scm, model.checkpoint, reader, job, machine, model.hashes, inspector)
    leave(machine)
    return show(report, job, reader) if machine.first else 0


def sample(args: Arguments, model: Model, machine: Machine) -> int:
    """Draw images from the model; returns the exit code."""
    if args.images or "fit" in args.settings or len(args.do) > 1:
        raise InputError(f"{option('sample')}: takes no images, no {option('fit')}, and at most one {option('do')}")
    query = parse_query(args.do[0], model.graph) if args.do else None
    if query and query.unconditional.keys() != query.variables.keys():
        words = "nothing is observed that a value could depend on"
        raise InputError(f"{option('do')} {args.do[0]}: with {option('sample')} {words}")
    batch = choose_batch(args.batch, None, machine)
    command = {"sample": args.sample, "do": args.do, "seed": args.seed, **model.hashes}
    command |= settings.show(model.mechanism.sampling)
    draw = Draw(args.sample, query.unconditional if query else {}, batch, args.seed, query.text if query else "")
    failed = write_samples(args.out, model.scm, model.graph, draw, command, args.overwrite, machine.device)
    for name, reason in failed.items():
        print(f"not drawn: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def show(report: Report, job: Job, reader: Reader) -> int:
    """Print the report; returns the exit code: 1 if an image could not be read, or strictly, an answer is doubtful."""
    if report.unsolved:
        worst = f"{report.unsolved:.1e} (RMS, on [-1, 1])"
        print(f"inversion: no implicit step moved a pixel by more than {worst} in the end")
    for note in reader.notes:
        print(note, file=sys.stderr)
    sources = [f"{source}: {', '.join(names)}" for source, names in reader.sources.items()]
    print(f"factual attributes: {'; '.join(sources)}")
    read = report.images - len(report.unreadable)
    earlier = f" ({report.earlier} of them earlier)" if report.earlier else ""
    sheet = f"{SHEET}, " if (job.out / SHEET).is_file() else ""
    print(f"{read} images{earlier}, {len(job.queries)} queries → {job.out}/{sheet}{TABLE}")
    for path, reason in report.unreadable.items():
        print(f"skipped {path}: {reason}", file=sys.stderr)
    for name, reasons in report.refused.items():
        for query, reason in reasons.items():
            print(f"not answered: {name} under {query}: {reason}", file=sys.stderr)
    rows = read_trust(job.out / TRUST)
    if rows:
        print(f"{summarise(rows)}: see {TRUST}")
    doubtful = job.strict and any(map(is_doubtful, rows))
    return 1 if report.unreadable or report.refused or doubtful else 0


def main() -> None:
    """Run the script, on the command line that Python was started with."""
    parser = make_parser()
    with one_line_errors(parser.show):
        sys.exit(run(parser))
