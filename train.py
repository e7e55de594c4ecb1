"""Train the mechanism of an image, or the oracle that judges counterfactuals.

    python train.py --data morphomnist --mechanism semantic --preset tiny --out runs/semantic
    python train.py --data morphomnist --part oracle --out runs/oracle
    torchrun --nproc-per-node 2 train.py ...

RUN holds checkpoint.pt (averaged weights, what rebuilds the model, and what resumes the run), log.jsonl and
samples/. With --resume a run that was stopped or killed goes on from its last checkpoint.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.utils import save_image
from tqdm import tqdm

from dscm import checkpoint, cli
from dscm.data import morphomnist
from dscm.data.scaling import to_signed, to_unit
from dscm.errors import InputError, exit_on_input_error
from dscm.files import atomic_path
from dscm.graphs import Graph, get_graph
from dscm.image import Sampling
from dscm.presets import IMAGE_PRESETS, ORACLE_PRESETS, Preset
from dscm.probe import probe_code

LOG_EVERY = 50  # steps
RESUMABLE = ("steps", "minutes", "device", "threads", "resume", "overwrite", "out", "data_dir", "cache_dir", "save_every")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="morphomnist", help="the causal graph: morphomnist, colour-morphomnist, …")
    parser.add_argument("--part", choices=["image", "oracle"], default="image", help="what to train")
    parser.add_argument("--mechanism", choices=["spatial", "semantic"], default="semantic")
    parser.add_argument("--preset", choices=list(IMAGE_PRESETS), default="tiny")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--steps", type=cli.number(int, 1), help="train until this step (default: the preset's)")
    parser.add_argument("--minutes", type=cli.number(float, 0, open_low=True), help="train for so long, over all resumptions")
    parser.add_argument("--p-null", type=cli.number(float, 0, 0.99), default=0.1, help="share of dropped conditions, p_∅")
    parser.add_argument("--beta", type=cli.number(float, 0), help="weight of the KL term")
    parser.add_argument("--prior", choices=["standard", "conditional"], help="p(z), the paper's, or p(z | parents)")
    parser.add_argument("--batch", type=cli.number(int, 1), help="images in a step, over all processes")
    parser.add_argument("--learning-rate", type=cli.number(float, 0, open_low=True))
    parser.add_argument("--save-every", type=cli.number(int, 1), default=500, help="steps between checkpoints")
    parser.add_argument("--sample-every", type=cli.number(int, 1), default=2000, help="steps between sample grids")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in --out")
    cli.add_data_arguments(parser)
    cli.add_machine_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Train until the budget of steps or minutes is spent."""
    args = parse_arguments()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = cli.set_up_machine(args.device, args.threads)
    if world > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    graph = get_graph(args.data)
    preset = {"image": IMAGE_PRESETS, "oracle": ORACLE_PRESETS}[args.part][args.preset]

    # The run's folder: a new one, or the one to resume.
    path = args.out / "checkpoint.pt"
    state = checkpoint.read(path, args.part) if args.resume else None
    settings = {k: v for k, v in vars(args).items() if k not in RESUMABLE} | {"world": world}
    if state:
        check_same_settings(path, state["settings"], settings)
    elif rank == 0:
        cli.prepare_output(args.out, args.overwrite)

    # Data: all of it on the device, as bytes.
    with main_process_first(rank, world):
        workers = os.cpu_count() or 1
        data = morphomnist.load(graph, args.data_dir, "train", args.cache_dir, workers)
        held_out = morphomnist.load(graph, args.data_dir, "t10k", args.cache_dir, workers)
    data, held_out = ({k: v.to(device) for k, v in part.items()} for part in (data, held_out))

    # Model, optimiser and average.
    torch.manual_seed(args.seed)
    config = model_config(args, preset)
    model = checkpoint.build(args.part, graph.name, config).to(device)
    if args.part == "image":
        model.scaling.fit(data)
    optimiser = torch.optim.Adam(model.parameters(), lr=args.learning_rate or preset.learning_rate)
    ema = checkpoint.EMA(model, preset.ema)
    step, seconds = 0, 0.0
    if state:
        step, seconds = state["step"], state["seconds"]
        model.load_state_dict(state["raw"])
        ema.average.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    replica = DistributedDataParallel(model) if world > 1 else model
    log = Log(args.out / "log.jsonl", step) if rank == 0 else None

    def save() -> None:
        """Write the checkpoint of the current step; the last one stays until this one is whole."""
        rest = {"step": step, "seconds": seconds, "raw": model.state_dict(), "optimiser": optimiser.state_dict()}
        checkpoint.save(path, args.part, ema.average, graph.name, config, settings, **rest)

    # The loop.
    batch = args.batch or preset.batch
    last = args.steps or (preset.steps if args.minutes is None else None)
    bar = tqdm(total=last, initial=step, desc=f"{args.part} {graph.name}", unit="step", disable=rank > 0)
    started, seconds_before = time.monotonic(), seconds
    while (last is None or step < last) and (args.minutes is None or seconds < 60 * args.minutes):
        step += 1
        for group in optimiser.param_groups:
            group["lr"] = (args.learning_rate or preset.learning_rate) * min(1.0, step / max(preset.warmup, 1))
        terms = train_step(replica, data, draw_batch(len(data["image"]), batch, step, args.seed)[rank::world],
                           step_seed(args.seed, step, rank), objective_arguments(args, preset, step))  # fmt: skip
        if not torch.isfinite(terms["loss"]):
            kept = f"{path} holds step {step - 1 - (step - 1) % args.save_every}" if path.exists() else "nothing was saved"
            raise InputError(f"step {step}: the loss is {terms['loss'].item()}; stopped, {kept}; try a lower --learning-rate")
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ema.update(model, step)
        seconds = seconds_before + time.monotonic() - started
        if world > 1 and args.minutes is not None:
            seconds = agree(seconds, device)
        if rank:
            continue
        bar.update()
        log.add(terms)
        if step % LOG_EVERY == 0 or step % args.save_every == 0:
            shown = log.write(step, seconds)
            bar.set_postfix(loss=f"{shown['loss']:.4g}", images_per_s=f"{batch * bar.format_dict['rate'] or 0:.0f}")
        if step % args.save_every == 0:
            save()
        if args.part == "image" and step % args.sample_every == 0:
            draw_samples(ema.average, graph, args.out / "samples" / f"{step:06d}.png", device)
    bar.close()
    if rank == 0:
        save()
        report = evaluate(ema.average, args.part, graph, held_out, config)
        log.finish(step, report)
        print("\n".join(f"{name}: {value:.4g}" for name, value in report.items()))
    if world > 1:
        distributed.destroy_process_group()


def model_config(args: argparse.Namespace, preset: Preset) -> dict[str, Any]:
    """Collect the arguments of the model's constructor from the preset and the command line."""
    config = dict(preset.model)
    if args.part == "image" and args.mechanism == "semantic":
        config |= preset.semantic | ({"prior": args.prior} if args.prior else {})
    return config


def objective_arguments(args: argparse.Namespace, preset: Preset, step: int) -> dict[str, float]:
    """Return the further arguments of the objective at a step: p_∅ and the warmed-up β."""
    if args.part == "oracle":
        return {}
    beta = preset.beta if args.beta is None else args.beta
    return {"p_null": args.p_null, "beta": beta * min(1.0, step / max(preset.beta_warmup, 1))}


def train_step(
    replica: nn.Module, data: dict[str, Tensor], index: Tensor, seed: int, arguments: dict[str, float]
) -> dict[str, Tensor]:
    """Compute the objective on one batch and its gradients; bfloat16 on a GPU."""
    device = data["image"].device
    torch.manual_seed(seed)  # dropout knows no other source
    generator = torch.Generator(device).manual_seed(seed)
    index = index.to(device)
    value = to_signed(data["image"][index])
    parents = {name: tensor[index] for name, tensor in data.items() if name not in ("image", "base")}
    if arguments:
        arguments = arguments | {"generator": generator}
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        terms = replica(value, parents, **arguments)
    # Losses summed over pixels are brought to the size that the gradient's clipping assumes.
    (terms["loss"] / (value[0].numel() if arguments else 1)).backward()
    return {name: term.detach() for name, term in terms.items()}


def draw_batch(n: int, batch: int, step: int, seed: int) -> Tensor:
    """Return the indices of a step: consecutive slices of one permutation per epoch, so nothing is remembered."""
    batch = min(batch, n)
    epoch, position = divmod(step - 1, n // batch)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(step_seed(seed, epoch, 0)))
    return order[position * batch : (position + 1) * batch]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into one, so that a resumed run draws what an uninterrupted one would."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


@contextmanager
def main_process_first(rank: int, world: int) -> Iterator[None]:
    """Let rank 0 go through the block, and write caches, before the other ranks."""
    if world > 1 and rank > 0:
        distributed.barrier()
    yield
    if world > 1 and rank == 0:
        distributed.barrier()


def agree(seconds: float, device: torch.device) -> float:
    """Take rank 0's clock on every rank, so that all stop at the same step."""
    clock = torch.tensor([seconds], dtype=torch.float32, device=device)
    distributed.broadcast(clock, 0)
    return clock.item()


def check_same_settings(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise `InputError` if a run would be resumed with other settings."""
    for name, value in new.items():
        if old.get(name) != value:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{path}: was made with {flag} {old.get(name)}, not {value}; give the same to --resume")


class Log:
    """Append averages to ``log.jsonl``; on resumption what came after the checkpoint is dropped.

    Args:
        path: the file.
        step: the step that the run starts from.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.sums, self.counts = path, {}, {}
        lines = [line for line in path.read_text().splitlines() if is_kept(line, step)] if path.exists() else []
        with atomic_path(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines))

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add one step's terms; NaN stands for a term that the batch has no images for."""
        for name, term in terms.items():
            known = torch.isfinite(term)
            self.sums[name] = self.sums.get(name, 0) + torch.where(known, term, 0)
            self.counts[name] = self.counts.get(name, 0) + known

    def write(self, step: int, seconds: float) -> dict[str, float]:
        """Append the averages since the last line, and return them."""
        means = {name: (self.sums[name] / self.counts[name].clamp_min(1)).item() for name in self.sums}
        self._append({"step": step, **means, "seconds": round(seconds, 1)})
        self.sums, self.counts = {}, {}
        return means

    def finish(self, step: int, report: dict[str, float]) -> None:
        """Append the final figures."""
        self._append({"step": step, "final": report})

    def _append(self, record: dict[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def is_kept(line: str, step: int) -> bool:
    """Tell whether a line of the log is whole and not after ``step``."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return False
    return record["step"] <= step and "final" not in record


@torch.no_grad()
def draw_samples(mechanism: nn.Module, graph: Graph, path: Path, device: torch.device) -> None:
    """Sample 64 images from the whole model, always with the same noise, and draw them as a grid."""
    mechanism.sampling = Sampling(steps=25)
    scm = graph.scm(mechanism).to(device)
    images = scm.sample(64, torch.Generator(device).manual_seed(0))["image"]
    with atomic_path(path) as temporary:
        save_image(to_unit(images), temporary, nrow=8)


@torch.no_grad()
def evaluate(model: nn.Module, part: str, graph: Graph, data: dict[str, Tensor], config: dict[str, Any]) -> dict[str, float]:
    """Judge the trained model on the test split: the oracle's accuracy, or the code's KL and linear probe."""
    value = to_signed(data["image"])
    if part == "oracle":
        guess = torch.cat([model.predict(x) for x in value.split(500)])
        return {"test accuracy": (guess == data["digit"]).float().mean().item()}
    if not config.get("code_dim"):
        return {}
    parents = {name: data[name] for name in graph.image_parents}
    kl = torch.cat([model.kl(x, model.scaling({k: v[i * 500 : (i + 1) * 500] for k, v in parents.items()}))
                    for i, x in enumerate(value.split(500))])  # fmt: skip
    names = {v.name: f"probe {v.name} {'accuracy' if v.classes else 'R²'}" for v in graph.attributes}
    return {"KL (nats)": kl.mean().item()} | {names[k]: v for k, v in probe_code(model, value, parents).items()}


if __name__ == "__main__":
    with exit_on_input_error():
        main()
