"""Measure the soundness of counterfactuals on test images.

    python evaluate.py --checkpoint CKPT [CKPT …] --out OUT --guidance 1 1.5 3 --solver ddim
    python evaluate.py --out OUT --abduction semantic dynamic residual --cta-lr 0.01 0.1 --figures

One record for every checkpoint, guidance, abduction and step size: composition, reversibility, effectiveness,
identity and truth under an intervention on each single variable. OUT gets metrics.json, metrics.md, differences.csv,
soundness.png, and the numbers of every image in values/. What OUT holds already is not measured again, so an
interrupted evaluation goes on, and a new checkpoint or setting adds its rows. torchrun shares the images out.
"""

import argparse
import hashlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dscm import checkpoint, runs
from dscm.cli import arguments as cli
from dscm.cli import options
from dscm.cli import parts
from dscm.evaluation import tables as report
from dscm.training.baseline_presets import BASELINES, get_baseline_preset
from dscm.cli.batch import batch_size, choose_batch
from dscm.plots.curves import draw_curves
from dscm.data import sets
from dscm.data.mammogram import Framing
from dscm.data.truth import find_truth
from dscm.errors import InputError, exit_on_input_error
from dscm.evaluation.protocol import Judge, PerImage, Task, evaluate_batch, set_task
from dscm.plots.sheets import Row, draw_sheet
from dscm.files import atomic_path
from dscm.causal.graph import Graph
from dscm.causal.graph_file import get_graph
from dscm.diffusion.guidance import Weights
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.causal.image_mechanism import ImageMechanism
from dscm.evaluation.metrics import l1
from dscm.oracle import Oracle
from dscm.plots.panels import draw_panels
from dscm.evaluation.lpips import load_lpips
from dscm.training.presets import get_preset
from dscm.evaluation.probe import main_score, score_oracle
from dscm.machine import gather, leave, main_process_first, set_up_processes
from dscm.evaluation.records import Results
from dscm.causal.scm import SCM

SHOWN = 12  # digits in the pictures


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", type=Path, nargs="+", metavar="CKPT", help="of image mechanisms (default: the bundled ones)"
    )
    parts.add_parts_arguments(parser)
    parser.add_argument(
        "--oracle-accuracy",
        type=cli.number(float, 0, 1),
        default=0.9,
        help="refuse an oracle of less accuracy, or R², on the test images; 0 takes any (default: 0.9)",
    )
    parser.add_argument("--out", type=Path, help="the folder to write, or to add to (default: RUN/soundness)")
    parser.add_argument("--n", type=cli.number(int, 2), default=512, help="test images (default: 512)")
    parser.add_argument("--guidance", type=options.weights, nargs="+", metavar="ω", help="guidance weights; one may be "
                        "given to each group of parents, as in thickness=3,others=1 or, for what is intervened on, "
                        "do=3,others=1 (default: 1 1.5 3)")  # fmt: skip
    parser.add_argument(
        "--cycles", type=cli.number(int, 1), default=1, help="rounds of composition and reversal (default: 1)"
    )
    parser.add_argument("--sampler", choices=["marginal", "different"], default="marginal",
                        help="interventions: values permuted within the images, the paper's, or values forced to "
                        "differ (default: marginal)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=64, help="images at a time; auto: what fits (default: 64)")
    parser.add_argument("--figures", action="store_true", help="draw the paper's panels and curves too")
    parser.add_argument("--overwrite", action="store_true", help="start over in a folder that has content")
    options.add_sampling_arguments(parser)
    options.add_baseline_arguments(parser)
    options.add_abduction_arguments(parser, several=True)
    cli.add_data_arguments(parser)
    cli.add_machine_arguments(parser)
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Evaluate whatever is asked for and not there yet, then write the tables and pictures of all there is."""
    args = parse_arguments()
    device, rank, world = set_up_processes(args.device, args.threads)
    if args.out is None and args.run is None:
        raise InputError("name the folder to write with --out, or a run with --run")
    args.out = args.out or args.run / "soundness"
    args.checkpoint = args.checkpoint or parts.choose_checkpoints(args, ["semantic", "spatial"])
    models, graph = set_up_models(args, device)
    parts.choose_parts(args, graph)
    oracle = parts.restore_oracle(graph, args.oracle, device)
    learned = parts.restore_attributes(graph, args.attributes, device)
    source = cli.read_source(args, models[0][1].get("settings", {}))
    with main_process_first(rank, world):
        data = sets.load(graph, source, "test", models[0][0].shape[-1])
    if args.n > len(data["image"]):
        raise InputError(f"--n {args.n}: the test split has {len(data['image'])} images")
    data = {name: tensor[: args.n].to(device) for name, tensor in data.items()}
    check_oracle(args, oracle, graph, data)
    results = Results(args.out, describe_common(args, data), args.overwrite)

    distances = {"l1": l1}
    lpips, reason = load_lpips(device)
    if lpips:
        distances["lpips"] = lpips
    elif rank == 0:
        print(f"LPIPS is left out: the weights of AlexNet cannot be had ({reason})", file=sys.stderr)
    judge = Judge(graph, oracle, distances)
    task = set_task(graph, data, args.sampler, args.seed, find_truth(graph, source), learned)
    largest = max((mechanism for mechanism, _ in models), key=lambda m: sum(p.numel() for p in m.parameters()))
    scm, first = graph.scm(largest, learned).to(device), {name: value[:1] for name, value in task.obs.items()}
    costliest = next((name for name in ("dynamic", "residual", "guided") if name in args.abduction), "semantic")
    weights = max(args.guidance, key=lambda weights: (not weights.trivial, len(weights.own)))
    options.configure(largest, args, weights, costliest, args.cta_lr[0])
    args.batch = choose_batch(args.batch, scm, first, rank, world)
    asked, done = {}, results.keys(with_lpips=lpips is not None)
    for path, label, (mechanism, content) in zip(args.checkpoint, tell_apart(args.checkpoint), models):
        for about in settings(args, path, mechanism, content):
            asked[results.key(about)] = (about, report.name_file(label, about), mechanism)
    for about, name, mechanism in (row for key, row in asked.items() if key not in done):
        scm = graph.scm(mechanism, learned).to(device)
        values, images = evaluate_mechanism(args, scm, judge, task, about, name, rank, world)
        if rank == 0:
            results.add(about, name, values, images)
    if rank == 0:
        write_reports(args, results, graph)
    leave(world)


def set_up_models(
    args: argparse.Namespace, device: torch.device
) -> tuple[list[tuple[ImageMechanism, dict[str, Any]]], Graph]:
    """Restore the mechanisms that are compared, with what else their checkpoints hold, and complete the options.

    Raises:
        InputError: they, or the options, do not go together.
    """
    models = [checkpoint.restore(path, "image", device) for path in args.checkpoint]
    made_for = {describe_images(mechanism, content) for mechanism, content in models}
    if len(made_for) > 1:
        raise InputError(f"--checkpoint: made for different data ({'; '.join(sorted(made_for))}); evaluate them apart")
    if any(content["graph"] != models[0][1]["graph"] for _, content in models):
        raise InputError(f"--checkpoint: made for different graphs named {made_for.pop()}; evaluate them apart")
    common = (*options.SOLVED, "guidance_interval", "precision")  # say also which rows may stand in one folder
    options.check_own_options(args, [mechanism for mechanism, _ in models], except_for=common)
    args.guidance = args.guidance or [Weights(1.0), Weights(1.5), Weights(3.0)]
    args.abduction, args.cta_lr = args.abduction or ["semantic"], args.cta_lr or [options.ALIGNMENT.rate]
    options.complete_sampling(args, models[0][0])
    for path, (mechanism, content) in zip(args.checkpoint, models):
        options.check_null_token(path, mechanism, content, args.guidance, args.abduction)
    for guidance, abduction in itertools.product(args.guidance, args.abduction):
        options.read_sampling(args, guidance, abduction, args.cta_lr[0])  # refuses what makes no sense
    graph = get_graph(models[0][1]["graph"])
    options.check_weights(args.guidance, graph)
    options.speed_up(args, [mechanism for mechanism, _ in models], device)
    return models, graph


def describe_images(mechanism: ImageMechanism, content: dict[str, Any]) -> str:
    """Say which images a checkpoint was made for: those of its graph, their size and, if not the usual, framing."""
    framing = Framing.of(content.get("settings", {}))
    about = f"{get_graph(content['graph']).name}, {mechanism.shape[-1]} px"
    return about if framing == Framing() else f"{about}, {framing.name}"


def check_oracle(args: argparse.Namespace, oracle: Oracle, graph: Graph, data: dict[str, torch.Tensor]) -> None:
    """Refuse an oracle that is often wrong about the test images themselves."""
    scores = score_oracle(oracle, data) if graph.predicted else {}
    for variable in graph.predicted:
        measure = main_score(variable)
        score = scores[f"test {measure} {variable.name}"]
        if args.oracle_accuracy and score < args.oracle_accuracy:
            raise InputError(
                f"--oracle {args.oracle}: its {measure} of {variable.name} on these {args.n} images is {score:.3f}; "
                f"--oracle-accuracy asks for {args.oracle_accuracy:g}"
            )


def settings(
    args: argparse.Namespace, path: Path, mechanism: ImageMechanism, content: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield what is asked of one checkpoint: the entries of each record that tell it from the others."""
    kind = mechanism.kind
    training = content.get("settings", {})
    beta, graph = training.get("beta"), get_graph(content["graph"])
    if beta is None and "preset" in training:
        beta = choose_beta(kind, graph, training["preset"])
    fixed = {
        "checkpoint": str(path),
        "checkpoint_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "mechanism": kind,
        "p_null": training.get("p_null"),
        "beta": beta,
        "batch": args.batch,
        "device": str(next(mechanism.parameters()).device),
        "training_steps": content.get("step"),
        "training_minutes": content["seconds"] / 60 if "seconds" in content else None,
        "parameters": sum(parameter.numel() for parameter in mechanism.parameters()),
    }
    if not isinstance(mechanism, DiffusionMechanism):
        plain = dict.fromkeys(("guidance", "weights", "cta_lr", "cta_steps", "cta_optimizer"))
        flags = {"no_pixel_noise": "without pixel noise", "sample_code": "sampled code"}
        given = options.own_options(args, kind).items()
        own = [flags[name] if name in flags else f"{name}={value:g}" for name, value in given]
        yield fixed | {"abduction": " ".join([kind, *own]), **plain}
        return
    for guidance in args.guidance:
        for abduction in args.abduction:
            # Without guidance there is nothing to align.
            plain = abduction == "semantic" or guidance.trivial
            for rate in args.cta_lr if abduction == "dynamic" and not plain else [None]:
                aligned = rate is not None
                yield fixed | {
                    "abduction": kind if plain else abduction,
                    "guidance": guidance.largest,
                    "weights": str(guidance) if guidance.own else None,
                    "cta_lr": rate,
                    "cta_steps": args.cta_steps if aligned else None,
                    "cta_optimizer": args.cta_optimizer if aligned else None,
                }


def choose_beta(kind: str, graph: Graph, preset: str) -> float:
    """Return the weight of the KL term that a preset gives a mechanism."""
    if kind in BASELINES:
        return get_baseline_preset(kind, graph.data_set, preset, graph.image_size).beta
    return get_preset("image", graph.data_set, preset, graph.image_size).beta


def describe_common(args: argparse.Namespace, data: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return the settings that all records of a folder share, the test digits and the oracle among them."""
    digits = hashlib.sha256(b"".join(data[name].cpu().numpy().tobytes() for name in sorted(data)))
    names = ("guidance_interval", "steps", "grid", "sigma_min", "precision", "n", "seed", "cycles", "sampler")
    solver = options.read_solver(args)
    return {name: getattr(args, name) for name in names} | {
        "solver": solver.kind,
        "fixed_point": solver.evaluations,
        "tolerance": solver.tolerance,
        "data_sha256": digits.hexdigest(),
        "oracle_sha256": hashlib.sha256(args.oracle.read_bytes()).hexdigest(),
        "attributes_sha256": args.attributes and hashlib.sha256(args.attributes.read_bytes()).hexdigest(),
    }


def evaluate_mechanism(
    args: argparse.Namespace,
    scm: SCM,
    judge: Judge,
    task: Task,
    about: dict[str, Any],
    name: str,
    rank: int,
    world: int,
) -> tuple[PerImage, dict[str, torch.Tensor]]:
    """Evaluate one setting on all images, the batches shared out over the processes.

    Returns:
        The metrics of every image, and the first images.
    """
    mechanism = scm.mechanisms["image"]
    abduction = "semantic" if about["abduction"] == about["mechanism"] else about["abduction"]
    guidance = about["guidance"] and Weights.parse(about["weights"] or str(about["guidance"]))
    options.configure(mechanism, args, guidance, abduction, about["cta_lr"] or args.cta_lr[0])
    starts = range(rank * args.batch, args.n, world * args.batch)
    batches = {}
    with (
        tqdm(total=len(starts), desc=name, unit="batch", disable=rank > 0) as bar,
        options.alignment_bar(mechanism, rank > 0),
    ):
        for start in starts:
            batch = task.batch(slice(start, start + args.batch))
            generator = cli.seed_batch(args.seed, start, batch.obs["image"].device)
            values, images = evaluate_batch(scm, judge, batch, args.cycles, generator)
            batches[start] = (to_cpu(values), to_cpu(images) if start < SHOWN else {})
            bar.update()
    merged = gather(batches, world)
    values = {key: torch.cat([part[key] for part, _ in merged]) for key in merged[0][0]}
    shown = [images for _, images in merged if images]
    return values, {label: torch.cat([images[label] for images in shown])[:SHOWN] for label in shown[0]}


def to_cpu(tensors: dict[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
    """Bring tensors home from whichever device a process has."""
    return {key: tensor.cpu() for key, tensor in tensors.items()}


def write_reports(args: argparse.Namespace, results: Results, graph: Any) -> None:
    """Write the tables and the pictures of every record of the folder, and print the tables."""
    text = report.markdown(results, graph)
    with atomic_path(args.out / "metrics.md") as temporary:
        temporary.write_text(text)
    with atomic_path(args.out / "differences.csv") as temporary:
        temporary.write_text(report.differences(results))
    draw_soundness(args.out / "soundness.png", results)
    if args.figures:
        draw_panels(args.out, results, graph)
        message = draw_curves(args.out, results.records, graph)
        if message:
            print(message, file=sys.stderr)
    if args.run:
        runs.describe(args.run, "soundness", text)
    print(text)


def draw_soundness(path: Path, results: Results) -> None:
    """Draw, for each checkpoint at the guidance in the middle, what was observed, composed, changed and reversed."""
    rows = []
    for digest in dict.fromkeys(record["checkpoint_sha256"] for record in results.records):
        own = [record for record in results.records if record["checkpoint_sha256"] == digest]
        plain = [record for record in own if record["abduction"] == record["mechanism"]] or own
        record = plain[len(plain) // 2]
        for name, images in results.values(record).items():
            if name.startswith("image/"):
                label = name.removeprefix("image/")
                first = f"{report.name_row(record, results.records)}: " if label == "observation" else ""
                rows.append(Row(first + label, images, label.endswith("reversed")))
    about = results.records[0]
    draw_sheet(path, rows, report.describe_solver(about))


def tell_apart(paths: Sequence[Path]) -> list[str]:
    """Name checkpoints by their file, or by folder and file where files have the same name."""
    stems = [path.stem for path in paths]
    return [f"{path.parent.name}-{path.stem}" if stems.count(path.stem) > 1 else path.stem for path in paths]


if __name__ == "__main__":
    with exit_on_input_error():
        main()
