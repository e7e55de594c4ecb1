"""Score a model of digits by the definitions of Melistas et al. (2024), and print a Markdown table.

    python -m dscm.cli.second_benchmark --checkpoint CKPT --data-dir D --guidance 1.5

Composition, effectiveness, minimality and Fréchet distance are those of their benchmark, described in
dscm/evaluation/second_benchmark.py. Their minimality needs an autoencoder, which is fitted to the training digits
first: a few minutes on a CPU.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dscm.cli.arguments import Parser, add_data, add_machine, location, number
from dscm.cli.sampling import SAMPLING, add_sampling, configure
from dscm.cli.script import one_line_errors
from dscm.data.sets import Source, get_data_set
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.evaluation.features import load_embeddings
from dscm.evaluation.latents import SIZE, STEPS, fit_latents, pad
from dscm.evaluation.plan import EvaluationSettings
from dscm.evaluation.runner import check_oracle, find_mixture
from dscm.evaluation.second_benchmark import VARIABLES, Instruments, measure, show
from dscm.machine import USUAL, set_up
from dscm.model import Model, load


def make_parser() -> Parser:
    """Declare the command line."""
    parser = Parser(__doc__, SAMPLING)
    parser.prog = "python -m dscm.cli.second_benchmark"
    group = parser.add_argument_group("model")
    group.add_argument("--checkpoint", required=True, metavar="CKPT", help="the mechanism of the image, a run, or the "
                       "name of a bundled model")  # fmt: skip
    group.add_argument("--oracle", type=location, metavar="CKPT", help="predicts the digit (default: the bundled one)")
    add_sampling(parser)
    group = parser.add_argument_group("data")
    group.add_argument("--n", type=number(int, 2), metavar="N", help="test images (default: all)")
    add_data(group)
    add_machine(parser).add_argument(
        "--batch", type=number(int, 1), default=USUAL, metavar="N", help="images at a time (default: %(default)s)"
    )
    return parser


def run(parser: Parser) -> None:
    """Score the model that the command line means, and print the table."""
    args = parser.read()
    machine = set_up(args.device, args.threads)
    model = configure(load(args.checkpoint, machine.device, args.oracle), args.settings)
    check(model)
    source = Source(args.data_dir, args.cache_dir, framing=model.framing, workers=os.cpu_count() or 1)
    data_set = get_data_set(model.graph, replace(source, mixture=find_mixture([model])))
    train, test = (data_set.load(split, model.mechanism.shape[-1]) for split in ("train", "test"))
    print(score(model, train["image"], {name: value[: args.n] for name, value in test.items()}, args.seed, args.batch))


def check(model: Model) -> None:
    """Check that their definitions apply to a model.

    Raises:
        InputError: it is of other images, lacks their variables, or is guided by what an intervention sets.
    """
    channels, height, _ = model.mechanism.shape
    known = [name for name in model.graph.interventions if name in VARIABLES]
    if model.graph.data_set != "morphomnist" or channels > 1 or height > SIZE or not known:
        wanted = f"grey digits of at most {SIZE} px, with any of {', '.join(VARIABLES)}"
        raise InputError(f"{model.checkpoint.path}: of {model.graph.name}: the benchmark is of {wanted}")
    sampling = model.mechanism.sampling
    if isinstance(sampling, Sampling) and sampling.weights.by_target:
        words = "composition sets nothing, so it would not be guided as counterfactuals are; name the parents"
        raise InputError(f"{option('guidance')} {sampling.weights}: {words}")


@torch.no_grad()
def score(model: Model, training: Tensor, data: Mapping[str, Tensor], seed: int, batch: int, steps: int = STEPS) -> str:
    """Fit the autoencoder of minimality, measure, and tabulate the scores as Markdown.

    Args:
        model: the model, with its guidance.
        training: training images, uint8 (M, 1, 28, 28).
        data: test images, and their attributes.
        seed: of everything random.
        batch: images at a time.
        steps: of the training of the autoencoder.

    Raises:
        InputError: the oracle is missing, or inaccurate on these images; or as `set_task`.
    """
    device = model.device
    placed, training = {name: value.to(device) for name, value in data.items()}, training.to(device)
    check_oracle(model, placed, EvaluationSettings().oracle_accuracy)
    embeddings, missing = load_embeddings(None, device)
    if "inception" in missing:
        print(f"the Fréchet distance is left out: {missing['inception']}", file=sys.stderr)
    latents = fit_latents(pad(training), seed, steps).embed
    instruments = Instruments(model.graph, model.oracle, latents, embeddings.get("inception"), training)
    return show(measure(model.scm, instruments, placed, seed, batch))


def main() -> None:
    """Run the script, on the command line that Python was started with."""
    parser = make_parser()
    with one_line_errors(parser.show):
        run(parser)


if __name__ == "__main__":
    main()
