"""Train the mechanism of the image, those of the attributes, or the oracle that judges counterfactuals.

    python train.py --data morphomnist --mechanism semantic --preset tiny --out runs/semantic
    python train.py --data celebahq --data-dir CELEBAMASK-HQ --part attributes --out runs/attributes
    python train.py --data morphomnist --part oracle --out runs/oracle
    python train.py --data folder --data-dir IMAGES --graph graph.json --run runs/mine --check
    torchrun --nproc-per-node 2 train.py ...

The folder gets checkpoint.pt (the averaged weights, what rebuilds the model, and what resumes the training), log.jsonl
and samples/. With --resume a training that was stopped or killed continues from its last checkpoint.
"""

from dscm.cli.arguments import Parser, add_data, add_machine, location, say, start
from dscm.cli.script import one_line_errors, typed_command
from dscm.errors import spell
from dscm.graphs import GRAPHS
from dscm.machine import leave
from dscm.training.dry_run import check
from dscm.training.place import Place
from dscm.training.recipe import Recipe
from dscm.training.run import Training


def make_parser() -> Parser:
    """Declare the command line."""
    parser = Parser(__doc__, [Recipe])
    what = parser.add_argument_group("what to train")
    parser.add_fields(what, Recipe, "part", "mechanism", "preset", "size", "patch")
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="NAME", help=f"a data set and its graph: {', '.join(GRAPHS)}; or folder, for "
                      "your own images (default: morphomnist)")  # fmt: skip
    data.add_argument("--graph", type=location, metavar="JSON", help="the causal graph of your own images")
    add_data(data)
    parser.add_fields(data, Recipe, "fit")
    data.add_argument("--csv", type=location, nargs="+", action="extend", default=[], metavar="CSV",
                      help="the one or two CSV files of EMBED (default: those at the top of its folder)")  # fmt: skip
    output = parser.add_argument_group("output")
    place = output.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=location, metavar="DIR", help="the folder of this training")
    place.add_argument("--run", type=location, metavar="DIR", help="the folder of a whole model: the part goes to "
                       "DIR/Part, and DIR gets graph.json and a README.txt")  # fmt: skip
    output.add_argument("--resume", action="store_true", help="continue from the checkpoint in the folder")
    output.add_argument("--overwrite", action="store_true", help="write into a folder that has content")
    output.add_argument("--check", action="store_true", help="read everything, say what is wrong, and train nothing")
    training = parser.add_argument_group("training")
    parser.add_fields(training, Recipe, "steps", "minutes", "batch", "precision", "fine_tune")
    add_machine(parser)
    return parser


def run(parser: Parser) -> None:
    """Check or run the training that the command line means."""
    args = parser.read()
    place = Place(args.data, args.graph, args.data_dir, args.csv, args.cache_dir, args.out, args.run)
    training = Training(Recipe(**args.settings, seed=args.seed), place, start(args), args.resume)
    if training.recipe.part == "attributes" and not training.graph.learned:
        print(f"{training.graph.name}: every attribute is a root or has a known equation; there is nothing to fit")
        return leave(training.machine)
    if training.machine.first:
        say(training.data_set.notes(), parser)
    if args.check:
        for line in check(training):
            print(spell(line, parser.show))
    else:
        trained = training.fit(args.overwrite, typed_command(), typed_command(add="--resume", drop="--overwrite"))
        if training.machine.first:
            print(trained.summary)
    leave(training.machine)


def main() -> None:
    """Run the script, on the command line that Python was started with."""
    parser = make_parser()
    with one_line_errors(parser.show):
        run(parser)
