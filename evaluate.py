"""Measure the soundness of counterfactuals on test digits.

    python evaluate.py --checkpoint CKPT [CKPT …] --out OUT --guidance 1 1.5 3

For every checkpoint and guidance: composition, reversibility, effectiveness and truth under an intervention on
each single variable, whose values are those of the other test digits in random order. OUT gets metrics.json,
metrics.md and soundness.png.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dscm import assets, checkpoint, cli, metrics
from dscm.data import morphomnist
from dscm.data.scaling import to_levels, to_signed
from dscm.errors import InputError, exit_on_input_error
from dscm.figures import Row, draw_sheet
from dscm.files import atomic_path
from dscm.graphs import Graph, get_graph
from dscm.image import DiffusionMechanism, Sampling
from dscm.oracles import DigitOracle
from dscm.report import markdown
from dscm.scm import SCM

SHOWN = 12  # digits in soundness.png
PerImage = dict[tuple[str, ...], Tensor]  # the path of a metric in a record → one number (or row) per image


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=list(assets.CHECKPOINTS.values()), metavar="CKPT",
                        help="of image mechanisms (default: the two bundled ones)")  # fmt: skip
    parser.add_argument(
        "--oracle", type=Path, default=assets.ORACLE, help="predicts the digit (default: the bundled one)"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--n", type=cli.number(int, 2), default=512, help="test digits (default: 512)")
    parser.add_argument("--guidance", type=cli.number(float, 0, open_low=True), nargs="+", default=[1.0, 1.5, 3.0],
                        metavar="ω", help="guidance weights (default: 1 1.5 3)")  # fmt: skip
    parser.add_argument(
        "--cycles", type=cli.number(int, 1), default=1, help="rounds of composition and reversal (default: 1)"
    )
    parser.add_argument("--batch", type=cli.number(int, 1), default=64, help="images at a time (default: 64)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that has content")
    cli.add_sampling_arguments(parser)
    cli.add_data_arguments(parser)
    cli.add_machine_arguments(parser)
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Evaluate each checkpoint at each guidance."""
    args = parse_arguments()
    device = cli.set_up_machine(args.device, args.threads)
    models = [checkpoint.restore(path, "image", device) for path in args.checkpoint]
    oracle, _ = checkpoint.restore(args.oracle, "oracle", device)
    graphs = {content["graph"] for _, content in models}
    if len(graphs) > 1:
        raise InputError(f"--checkpoint: made for different data ({', '.join(sorted(graphs))}); evaluate them apart")
    graph = get_graph(graphs.pop())
    cli.check_output(args.out, args.overwrite)
    data = morphomnist.load(graph, args.data_dir, "t10k", args.cache_dir, os.cpu_count() or 1)
    if args.n > len(data["image"]):
        raise InputError(f"--n {args.n}: the test split has {len(data['image'])} digits")
    data = {name: tensor[: args.n].to(device) for name, tensor in data.items()}
    args.guidance = list(dict.fromkeys(args.guidance))
    interventions = draw_interventions(graph, data, args.seed)

    records, sheet = [], []
    for path, label, (mechanism, _) in zip(args.checkpoint, tell_apart(args.checkpoint), models):
        scm = graph.scm(mechanism).to(device)
        results, seconds, rows = evaluate_mechanism(args, scm, graph, oracle, data, interventions, label)
        sheet += rows
        for guidance, per_image in results.items():
            about = describe_run(args, path, mechanism, guidance, seconds[guidance] / args.n)
            records.append(about | nest({key: values.mean(dim=0).tolist() for key, values in per_image.items()}))
        write_text(args.out / "metrics.json", json.dumps(records, indent=1) + "\n")
        write_text(args.out / "metrics.md", markdown(records, graph))
    title = f"guidance {middle(args.guidance):g}, {args.steps} steps, grid {args.grid}, fixed point {args.fixed_point}"
    draw_sheet(args.out / "soundness.png", sheet, title)
    print((args.out / "metrics.md").read_text())


def draw_interventions(graph: Graph, data: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Permute the values of each parent of the image within the test digits (marginal interventions)."""
    generator = torch.Generator().manual_seed(seed)
    n = len(data["image"])
    return {
        name: data[name][torch.randperm(n, generator=generator).to(data[name].device)] for name in graph.image_parents
    }


def evaluate_mechanism(
    args: argparse.Namespace,
    scm: SCM,
    graph: Graph,
    oracle: DigitOracle,
    data: Mapping[str, Tensor],
    interventions: Mapping[str, Tensor],
    name: str,
) -> tuple[dict[float, PerImage], dict[float, float], list[Row]]:
    """Evaluate one mechanism at every guidance; each image's noise is abducted once.

    Returns:
        For each guidance the metrics of every image and the seconds spent on one counterfactual of each; and
        rows of tiles that show the first digits at the middle guidance.
    """
    mechanism = scm.mechanisms["image"]
    parts: dict[float, list[PerImage]] = {guidance: [] for guidance in args.guidance}
    seconds = dict.fromkeys(args.guidance, 0.0)
    rows: list[Row] = []
    batches = range(0, args.n, args.batch)
    with tqdm(total=len(batches) * len(args.guidance), desc=name, unit="batch") as bar:
        for start in batches:
            part = slice(start, start + args.batch)
            obs = {key: value[part] for key, value in data.items() if key != "base"}
            obs["image"] = to_signed(obs["image"])
            do = {key: value[part] for key, value in interventions.items()}
            mechanism.sampling = Sampling(1.0, args.steps, args.grid, args.fixed_point)
            began = time.perf_counter()
            noise = scm.abduct(obs)
            abduction = time.perf_counter() - began
            for guidance in args.guidance:
                mechanism.sampling = Sampling(guidance, args.steps, args.grid, args.fixed_point)
                per_image, images, prediction = evaluate_batch(
                    scm, graph, oracle, obs, noise, data["base"][part], do, args.cycles
                )
                parts[guidance].append(per_image)
                seconds[guidance] += abduction + prediction
                if not start and guidance == middle(args.guidance):
                    rows = [
                        Row(
                            f"{name}: {label}" if label == "observation" else label,
                            to_levels(x[:SHOWN]),
                            "rev" in label,
                        )
                        for label, x in images.items()
                    ]
                bar.update()
    return (
        {g: {key: torch.cat([one[key] for one in some]) for key in some[0]} for g, some in parts.items()},
        seconds,
        rows,
    )


def evaluate_batch(
    scm: SCM,
    graph: Graph,
    oracle: DigitOracle,
    obs: Mapping[str, Tensor],
    noise: Mapping[str, Any],
    base: Tensor,
    interventions: Mapping[str, Tensor],
    cycles: int,
) -> tuple[PerImage, dict[str, Tensor], float]:
    """Compute every metric of one batch at the current guidance.

    Returns:
        The metrics; the images by label: observation, composition, counterfactual and reversal of each
        intervention; and the seconds that one prediction took.
    """
    began = time.perf_counter()
    composed = scm.predict(noise)["image"]
    prediction = time.perf_counter() - began
    result: PerImage = {("composition", "l1"): metrics.composition(scm, obs, composed, cycles)}
    images = {"observation": obs["image"], "composition": composed}
    for name, value in interventions.items():
        do = {name: value}
        counterfactual = scm.predict(noise, do)
        reversed_images = list(metrics.reversals(scm, obs, counterfactual, do, cycles))
        distances = [metrics.l1(x, obs["image"]) for x in reversed_images]
        result["reversibility", name, "l1"] = torch.stack(distances, dim=1)
        for attribute, errors in metrics.effectiveness(graph, oracle, counterfactual).items():
            for metric, error in errors.items():
                result["effectiveness", name, attribute, metric] = error
        if metrics.has_truth(graph, name):
            truth = metrics.true_counterfactual(base, {k: v for k, v in counterfactual.items() if k != "image"})
            result["truth", name, "l1"] = metrics.l1(counterfactual["image"], truth)
            result["truth", name, "factual_l1"] = metrics.l1(obs["image"], truth)
        images |= {f"do({name})": counterfactual["image"], f"do({name}) reversed": reversed_images[0]}
    return result, images, prediction


def describe_run(
    args: argparse.Namespace, path: Path, mechanism: DiffusionMechanism, guidance: float, seconds: float
) -> dict[str, Any]:
    """Return the entries of a record that say what was measured and how."""
    kind = "semantic" if mechanism.code_dim else "spatial"
    return {
        "checkpoint": str(path),
        "mechanism": kind,
        "abduction": kind,
        "guidance": guidance,
        "steps": args.steps,
        "grid": args.grid,
        "fixed_point": args.fixed_point,
        "n": args.n,
        "seed": args.seed,
        "cycles": args.cycles,
        "sampler": "marginal",
        "seconds_per_image": seconds,
    }


def middle(values: list[float]) -> float:
    """Return the value in the middle of a list."""
    return values[len(values) // 2]


def tell_apart(paths: list[Path]) -> list[str]:
    """Name checkpoints by their file, or by file and folder where files have the same name."""
    stems = [path.stem for path in paths]
    return [str(path.with_suffix("")) if stems.count(path.stem) > 1 else path.stem for path in paths]


def nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Turn paths into nested dictionaries."""
    result: dict[str, Any] = {}
    for path, value in flat.items():
        level = result
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = value
    return result


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
