"""Train the mechanism of an image, those of attributes, or the oracle that judges counterfactuals.

    python train.py --data morphomnist --mechanism semantic --preset tiny --out runs/semantic
    python train.py --data celebahq --data-dir CELEBAMASK-HQ --part attributes --out runs/attributes
    python train.py --data morphomnist --part oracle --out runs/oracle
    python train.py --data folder --data-dir IMAGES --graph graph.json --run runs/mine --check
    torchrun --nproc-per-node 2 train.py ...

RUN holds checkpoint.pt (averaged weights, what rebuilds the model, and what resumes the run), log.jsonl and
samples/. With --resume a run that was stopped or killed goes on from its last checkpoint.
"""

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.utils import save_image
from tqdm import tqdm

from dscm import checkpoint, runs
from dscm.training import dry_run as check
from dscm.cli import arguments as cli
from dscm.cli import parts
from dscm.baselines.likelihood import LIKELIHOODS
from dscm.training.baseline_presets import BASELINES
from dscm.plots.calibration import draw_calibration
from dscm.data import sets
from dscm.data.scaling import to_unit
from dscm.plots.graph import draw_graph
from dscm.errors import InputError, exit_on_input_error
from dscm.files import atomic_path
from dscm.causal.graph import Graph
from dscm.training.log import Log
from dscm.training.presets import Preset
from dscm.evaluation.probe import judge
from dscm.machine import leave, main_process_first, set_up_processes
from dscm.training.recipe import (
    P_NULL,
    check_own_options,
    choose_bfloat16,
    choose_preset,
    image_size,
    model_config,
    objective_arguments,
    start_tuning,
)
from dscm.training.trainer import GradientStep, agree, draw_batch, schedule_rate, step_seed

LOG_EVERY = 50  # steps
SHOWN = 64  # samples in a grid
RESUMABLE = """check graph run sample_every steps minutes device threads resume overwrite out data_dir
csv cache_dir save_every oracle attributes eager""".split()  # may differ when a run goes on


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts.add_graph_arguments(parser)
    parser.add_argument("--part", choices=checkpoint.KINDS, default="image", help="what to train")
    parser.add_argument("--mechanism", choices=["spatial", "semantic", *BASELINES], default="semantic")
    parser.add_argument("--preset", choices=["tiny", "paper"], default="tiny")
    parser.add_argument("--size", type=cli.number(int, 8), help="pixels a side (default: the preset's)")
    parser.add_argument("--patch", type=cli.number(int, 1), help="side of the blocks of pixels that the networks work "
                        "on: smaller sees more detail, and is slower (default: the preset's)")  # fmt: skip
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, help="the folder of this training")
    place.add_argument("--run", type=Path, help="the folder of a whole model: this part goes to RUN/PART, and RUN gets "
                       "graph.json and a README.txt")  # fmt: skip
    parser.add_argument("--steps", type=cli.number(int, 1), help="train until this step (default: the preset's)")
    parser.add_argument(
        "--minutes", type=cli.number(float, 0, open_low=True), help="train for so long, over all resumptions"
    )
    parser.add_argument(
        "--p-null", type=cli.number(float, 0, 0.99), help=f"share of dropped conditions, p_∅ (default: {P_NULL:g})"
    )
    parser.add_argument("--null-apart", action="store_const", const=True, help="also drop the code, and each parent, "
                        "by itself: for guidance with a weight for each group")  # fmt: skip
    parser.add_argument("--beta", type=cli.number(float, 0), help="weight of the KL term")
    parser.add_argument("--prior", choices=["standard", "conditional"], help="p(z), the paper's, or p(z | parents)")
    parser.add_argument("--likelihood", choices=list(LIKELIHOODS), help="of a pixel, in an autoencoder (default: "
                        "discretised)")  # fmt: skip
    parser.add_argument("--fine-tune", type=Path, metavar="CKPT", help="a trained VAE or HVAE: go on until an oracle "
                        "finds in its counterfactuals what was intervened on")  # fmt: skip
    parser.add_argument("--oracle", type=Path, metavar="CKPT", help="of --fine-tune (default: bundled)")
    parser.add_argument("--attributes", type=Path, metavar="CKPT", help="of --fine-tune, where the graph has any that "
                        "are learned (default: bundled)")  # fmt: skip
    parser.add_argument("--batch", type=cli.number(int, 1), help="images in a step, over all processes")
    parser.add_argument("--learning-rate", type=cli.number(float, 0, open_low=True))
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        help="of the networks while training (default: bfloat16 on a GPU); not every CPU computes in bfloat16",
    )
    parser.add_argument("--eager", action="store_true", help="on a GPU, ask for the kernels of every step anew rather "
                        "than record those of one and replay them")  # fmt: skip
    parser.add_argument("--save-every", type=cli.number(int, 1), default=500, help="steps between checkpoints")
    parser.add_argument("--sample-every", type=cli.number(int, 1), default=2000, help="steps between sample grids")
    parser.add_argument("--check", action="store_true", help="read everything, say what is wrong, and train nothing")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that has content")
    cli.add_data_arguments(parser)
    cli.add_framing_arguments(parser)
    cli.add_machine_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Train until the budget of steps or minutes is spent."""
    args = parse_arguments()
    device, rank, world = set_up_processes(args.device, args.threads)
    check_own_options(args)
    args.p_null = P_NULL if args.p_null is None else args.p_null
    graph = parts.choose_graph(args)
    args.out = args.out or args.run / args.part
    if args.part == "attributes" and not graph.learned:
        print(f"{graph.name}: every attribute is a root or has a known equation; there is nothing to fit")
        return leave(world)
    preset = choose_preset(args, graph)
    run = Run(args, preset, graph, device, rank, world)
    if args.check:
        return check_only(args, run)
    data, held_out = load_data(args, graph, image_size(args, graph), device, rank, world)
    run.start(data)
    run.claim()

    batch = args.batch or preset.batch
    if batch < world:
        raise InputError(f"--batch {batch}: must be at least the number of processes, {world}")
    parents = {name: held_out[name] for name in graph.image_parents}
    last = args.steps or (preset.steps if args.minutes is None else None)
    log = Log(args.out / "log.jsonl", run.step) if rank == 0 else None
    with tqdm(total=last, initial=run.step, desc=f"{args.part} {graph.name}", unit="step", disable=rank > 0) as bar:
        while (last is None or run.step < last) and (args.minutes is None or run.seconds < 60 * args.minutes):
            terms = run.advance(batch)
            if rank == 0:
                bar.update()
                log.add(terms)
                keep_record(run, log, bar, batch, parents)
    if rank == 0:
        run.save()
        report = judge(run.ema.average, args.part, graph, held_out)
        run.save(report)
        summary = "\n".join(f"{name}: {value:.4g}" for name, value in report.items())
        if args.part == "attributes":
            draw_calibration(args.out / "calibration.png", run.ema.average, held_out)
        if args.run:
            runs.describe(args.run, args.part, f"{shlex.join(['python', *sys.argv])}\n\n{summary}")
        log.finish(run.step, run.seconds, report)
        print(summary)
    leave(world)


def check_only(args: argparse.Namespace, run: "Run") -> None:
    """Read the data, draw the graph and time a few steps; print what is there and what is wrong, and train nothing.

    Raises:
        InputError: a split cannot be read.
    """
    source = cli.read_source(args, vars(args))
    splits, unread = check.read_splits(run.graph, source, image_size(args, run.graph))
    picture = args.run / "graph.png" if args.run else args.out.with_name(f"{args.out.name}-graph.png")
    draw_graph(picture, run.graph)
    for line in check.summarise(run.graph, splits):
        print(line)
    print(f"graph: {picture}")
    if "train" in splits:
        run.start({name: value.to(run.device) for name, value in splits["train"].items()})
        batch = min(args.batch or run.preset.batch, len(splits["train"]["image"]))
        print(check.estimate(lambda: run.advance(batch), args.steps or run.preset.steps, run.device))
    for fault in check.find_faults(run.graph, splits):
        print(f"wrong: {fault}")
    if unread:
        raise InputError("; ".join(unread))


def keep_record(run: "Run", log: Log, bar: tqdm, batch: int, parents: dict[str, Tensor]) -> None:
    """Write the log, the checkpoint and a grid of samples, drawn for ``parents``, at the steps that ask for them."""
    args = run.args
    saving = run.step % args.save_every == 0
    if run.step % LOG_EVERY == 0 or saving:
        means = log.write(run.step, run.seconds)
        bar.set_postfix(loss=f"{means['loss']:.4g}", images_per_s=f"{batch * (bar.format_dict['rate'] or 0):.0f}")
    if saving:
        run.save()
    if args.part == "image" and run.step % args.sample_every == 0:
        draw_samples(run.ema.average, parents, args.out / "samples" / f"{run.step:06d}.png", run.device)


class Run:
    """Hold what changes while training: model, average, optimiser, step and clock.

    Args:
        args: the command line.
        preset: sizes and settings.
        graph: the causal graph.
        device: where to train.
        rank, world: this process and how many there are.

    Raises:
        InputError: the folder has content, or the run to resume was made with other settings.
    """

    def __init__(
        self, args: argparse.Namespace, preset: Preset, graph: Graph, device: torch.device, rank: int, world: int
    ) -> None:
        self.args, self.preset, self.graph, self.device = args, preset, graph, device
        self.rank, self.world = rank, world
        self.path = args.out / "checkpoint.pt"
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in RESUMABLE}
        self.settings = settings | {"world": world}
        self.rate = args.learning_rate or preset.learning_rate
        self.bfloat16 = choose_bfloat16(args, device)
        self.step, self.seconds = 0, 0.0
        self.state = checkpoint.read(self.path, args.part) if args.resume else None
        if self.state:
            if "raw" not in self.state:
                raise InputError(f"{self.path}: holds weights alone, without what resumes a run")
            check_same_settings(self.path, self.state["settings"], self.settings)
            if self.state["graph"] != graph.key:
                raise InputError(f"{self.path}: was trained with another graph; name another --out")
        elif rank == 0 and not args.check:
            cli.check_output(args.out, args.overwrite)

    def start(self, data: dict[str, Tensor]) -> None:
        """Build model and optimiser, afresh or from the checkpoint, to learn from ``data`` on the device."""
        torch.manual_seed(self.args.seed)
        if self.args.fine_tune:
            self.objective, self.config = start_tuning(self.args, self.preset, self.graph, data, self.device)
            self.model = self.objective.mechanism
        else:
            self.config = model_config(self.args, self.graph, self.preset)
            self.model = checkpoint.build(self.args.part, self.graph.key, self.config).to(self.device)
            self.model.fit_scaling(data)
            self.objective = self.model
        learned = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(learned, lr=self.rate, fused=self.device.type == "cuda")
        self.ema = checkpoint.EMA(self.model, self.preset.ema)
        if self.state:
            self.step, self.seconds = self.state["step"], self.state["seconds"]
            self.objective.load_state_dict(self.state["raw"])
            self.ema.average.load_state_dict(self.state["model"])
            fused = self.optimiser.param_groups[0]["fused"]  # is this device's, not that of the checkpoint
            self.optimiser.load_state_dict(self.state["optimiser"])
            for group in self.optimiser.param_groups:
                group["fused"] = fused
        replica = DistributedDataParallel(self.objective) if self.world > 1 else self.objective
        fixed = self.args.part != "attributes" and not self.args.fine_tune  # shapes, and nothing waits for the device
        able = self.device.type == "cuda" and hasattr(torch.cuda.CUDAGraph, "register_generator_state")  # torch 2.4
        record = able and self.world == 1 and fixed and not self.args.eager
        self.gradient = GradientStep(replica, data, self.preset.flip, self.bfloat16, record)
        self.images = len(data["image"])

    def claim(self) -> None:
        """Take the folder: no checkpoint of an earlier training stays, and a model gets its graph."""
        if self.rank == 0:
            if not self.state:
                self.path.unlink(missing_ok=True)
            if self.args.run:
                runs.write_graph(self.args.run, self.graph)
                runs.write_data(self.args.run, self.args.data_dir, self.args.csv)

    def advance(self, batch: int) -> dict[str, Tensor]:
        """Take one step and return its terms.

        Raises:
            InputError: the loss is not finite; weights and checkpoint stay as they were.
        """
        started = time.monotonic()
        step = self.step + 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * schedule_rate(step, self.preset)
        index = draw_batch(self.images, batch, step, self.args.seed)[self.rank :: self.world]
        seed = step_seed(self.args.seed, step, self.rank)
        arguments = objective_arguments(self.args, self.preset, step)
        terms = self.gradient(index, seed, arguments)
        if not torch.isfinite(terms["loss"]):
            kept = f"{self.path} holds an earlier step" if self.path.exists() else "nothing was saved yet"
            raise InputError(f"step {step}: the loss is {terms['loss'].item()}; stopped, {kept}; lower --learning-rate")
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.update(self.model, step)
        self.step = step
        self.seconds += time.monotonic() - started
        if self.world > 1 and self.args.minutes is not None:
            self.seconds = agree(self.seconds, self.device)
        return terms

    def save(self, report: dict[str, float] | None = None) -> None:
        """Write the checkpoint of the current step, at the end with how the model does on the test split.

        The last one stays until this one is whole.
        """
        rest = {
            "test": report,
            "step": self.step,
            "seconds": self.seconds,
            "raw": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        average = self.ema.average
        checkpoint.save(self.path, self.args.part, average, self.graph.key, self.config, self.settings, **rest)


def load_data(
    args: argparse.Namespace, graph: Graph, size: int, device: torch.device, rank: int, world: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Load the training and the test split whole onto the device, as bytes; rank 0 fills the cache first."""
    source = cli.read_source(args, vars(args))
    with main_process_first(rank, world):
        splits = [sets.load(graph, source, split, size) for split in ("train", "test")]
    train, test = ({name: tensor.to(device) for name, tensor in split.items()} for split in splits)
    if args.part == "attributes":  # no pixels
        train["image"], test["image"] = train["image"][:, :0], test["image"][:, :0]
    if args.part == "oracle" and "base" in train:  # it must also read digits as they were written
        both = torch.cat([train["image"].amax(dim=1, keepdim=True), train["base"]])
        train = {"image": both, "digit": train["digit"].repeat(2)}  # both are told by their strokes
    return train, test


def check_same_settings(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise `InputError` if a run would be resumed with other settings."""
    for name, value in new.items():
        if name == "world" and old.get(name) != value:
            raise InputError(f"{path}: was made by {old.get(name)} processes, not {value}")
        if old.get(name) != value:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{path}: was made with {flag} {old.get(name)}, not {value}; give the same to --resume")


@torch.no_grad()
def draw_samples(mechanism: nn.Module, parents: dict[str, Tensor], path: Path, device: torch.device) -> None:
    """Generate an image for each of the first test images' parents, always with the same noise, as a grid."""
    if hasattr(mechanism, "sampling"):
        mechanism.sampling = replace(mechanism.sampling, steps=25)
    shown = {name: value[:SHOWN] for name, value in parents.items()}
    noise = mechanism.sample_noise(len(next(iter(shown.values()))), torch.Generator(device).manual_seed(0))
    images = mechanism.predict(noise, shown)
    with atomic_path(path) as temporary:
        save_image(to_unit(images), temporary, nrow=8)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
