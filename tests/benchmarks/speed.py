"""Time what a counterfactual costs, setting by setting, and training; `counterfactuals.py` compares procedures.

python tests/benchmarks/speed.py --data-dir MNIST --n 256 --out benchmark.json
"""

import argparse
import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from network_cost import compare_networks
from published import compare_alignments
from subjects import read_digits, restore
from timing import clock, fastest, show
from torch import Tensor

from dscm import checkpoint
from dscm.data.morphomnist import measure as morphometry
from dscm.data.morphomnist.render import render
from dscm.data.scaling import l1, to_levels, to_signed
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.files import atomic_path
from dscm.graphs import get_graph
from dscm.training.presets import get_preset
from dscm.training.trainer import Trainer

GRAPH = get_graph("morphomnist")
GUIDED: dict[str, Any] = {"guidance": 1.5}


def main() -> None:
    """Print a table of each comparison, ratios first, and write all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="raw MNIST (default: the 64 bundled digits)")
    parser.add_argument("--cache-dir", type=Path, default=Path("data-cache"), help="of the redrawn digits")
    parser.add_argument("--n", type=int, default=64, help="digits (default: 64)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    parser.add_argument("--out", type=Path, help="a JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mechanism = restore("semantic", device)
    data, _ = read_digits(args.data_dir, args.n, args.cache_dir)
    obs = {name: value.to(device) for name, value in data.items() if name != "base"}
    obs["image"] = to_signed(obs["image"])
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {args.threads} threads")
    result = {"device": name, "threads": args.threads, "n": args.n}
    result["alignment"] = compare_alignments(mechanism, obs)
    result["cost"] = compare_costs(mechanism, obs)
    result["options"] = compare_options(device, obs)
    result["sizes"] = compare_sizes(device)
    result["training"] = compare_training(device)
    result["network"] = compare_networks(device)
    result["digits"] = compare_digits(to_levels(obs["image"][:64]), obs["thickness"][:64])
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


@torch.no_grad()
def compare_costs(mechanism: DiffusionMechanism, obs: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Time abduction and prediction, an image, as one setting after another departs from the first."""

    def cost(n: int, settings: dict[str, Any]) -> float:
        view, part = mechanism.using(**{"guidance": 1.0} | settings), {key: value[:n] for key, value in obs.items()}
        seconds, _ = fastest(partial(compose, view, part), part["image"])
        return seconds / len(part["image"])

    rows = []
    for name, n, settings in (
        ("20 steps, ω = 1", 64, {}),
        ("40 steps", 64, {"steps": 40}),
        ("ω = 1.5 where σ ≥ 1", 64, GUIDED),
        ("the same, guided abduction", 64, {**GUIDED, "abduction": "guided"}),
        ("ω = 1.5 everywhere", 64, {**GUIDED, "guidance_interval": (0.0, 1000.0)}),
        ("ddim", 64, {"solver": "ddim"}),
        ("ddim, ω = 1.5", 64, {**GUIDED, "solver": "ddim"}),
        ("ddim, ω = 1.5, residual", 64, {**GUIDED, "abduction": "residual"}),
        ("ddim, ω = 1.5, dynamic, 1 gradient step", 64, {**GUIDED, "abduction": "dynamic"}),
        ("ddim, ω = 1.5, dynamic, 5", 64, {**GUIDED, "abduction": "dynamic", "cta_steps": 5}),
        ("one image at a time", 1, {}),
        ("16 at a time", 16, {}),
    ):
        plain, spent = cost(64, {}), cost(n, settings)  # side by side, since a shared machine's speed drifts
        rows.append({"times as long": spent / plain, "setting": name, "s an image": spent})
    return show("cost of an abduction and a prediction, 64 digits at a time", rows)


@torch.no_grad()
def compare_options(device: torch.device, obs: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Time abduction and prediction of 64 digits with and without each option of the network, after a first time."""
    x, rows = obs["image"][:64], []
    for precision, compiled in itertools.product(("float32", "bfloat16"), (False, True)):
        mechanism = restore("semantic", device).using(abduction="guided", precision=precision)
        if compiled:
            mechanism.unet.compile(dynamic=False)
        part = {key: value[:64] for key, value in obs.items()}
        times = [clock(x)]
        for _ in range(4):
            image = compose(mechanism, part)
            times.append(clock(image))
        first, *later = (after - before for before, after in zip(times, times[1:]))
        name = precision + ", compiled" * compiled
        row = {"sampling": name, "s an image": min(later) / len(x), "first, s": first}
        row["times as fast"] = (rows[0] if rows else row)["s an image"] / row["s an image"]
        rows.append(row | {"composition ×10⁻²": 100 * l1(image, x).mean().item()})
    return show("options of sampling, guided abduction, ω = 1.5", rows)


@torch.no_grad()
def compare_sizes(device: torch.device) -> list[dict[str, Any]]:
    """Time abduction and prediction by the bundled models of digits, faces and mammograms, at ω = 1."""
    rows = []
    for data_set, kind in (("morphomnist", "semantic"), ("celebahq", "semantic"), ("embed", "spatial")):
        mechanism = restore(kind, device, get_graph(data_set)).using(guidance=1.0)
        x = torch.zeros(16, *mechanism.shape, device=device)
        pa = {variable.name: x.new_zeros(len(x)) for variable in mechanism.scaling.variables}
        seconds, _ = fastest(partial(compose, mechanism, {**pa, "image": x}), x)
        rows.append({"images": data_set, "pixels a side": x.shape[-1], "s an image": seconds / len(x)})
        rows[-1] = {"times as long": rows[-1]["s an image"] / rows[0]["s an image"]} | rows[-1]
    return show("cost by resolution, 20 steps, ω = 1, 16 at a time", rows)


def compose(mechanism: DiffusionMechanism, obs: dict[str, Tensor]) -> Tensor:
    """Abduct and predict under the null intervention."""
    return mechanism.predict(mechanism.abduct(obs["image"], obs), obs)


def compare_training(device: torch.device) -> list[dict[str, Any]]:
    """Time training steps of the tiny semantic model with and without each option."""
    preset = get_preset("image", GRAPH)
    data = GRAPH.scm().sample(512, torch.Generator())
    data["image"] = torch.randint(256, (512, 1, 28, 28), dtype=torch.uint8)
    gpu = device.type == "cuda"
    steps, rows = 100 if gpu else 8, []
    for precision, compiled, captured in itertools.product(("float32", "bfloat16"), (False, True), (False, True)):
        if captured and not gpu:
            continue
        model = checkpoint.build("image", GRAPH, preset.model).to(device)
        if compiled:
            model.unet.compile()
            model.encoder.compile()
        settings = replace(preset.training, precision=precision, static=captured)
        trainer = Trainer(model, data, settings, device)
        began = 0.0
        for step, terms in enumerate(trainer.run(steps + 2)):
            if step == 1:  # the first two warm up
                began = clock(terms["loss"])
        rate = steps * settings.batch / (clock(terms["loss"]) - began)
        name = precision + ", compiled" * compiled + ", CUDA graph" * captured
        faster = rate / (rows[0]["images/s"] if rows else rate)
        rows.append({"training": name, "times as fast": faster, "images/s": rate})
    return show("training, tiny", rows)


def compare_digits(digits: Tensor, thickness: Tensor) -> list[dict[str, Any]]:
    """Time measuring digits, uint8 (N, 1, 28, 28), and giving each another thickness: one by one, and at once.

    `benchmark_morphometry.py` compares both with the original's definitions in scikit-image.
    """
    rows = []
    for name, work in (("measure", lambda i: morphometry.measure(digits[i])),
                       ("redraw", lambda i: render(digits[i], thickness=thickness.flip(0)[i]))):  # fmt: skip
        rates = []
        for size in (1, len(digits)):
            began = clock(digits)
            for i in torch.arange(len(digits)).split(size):
                work(i)
            rates.append(len(digits) / (clock(digits) - began))
        rows.append({"digits": name, "times as fast": rates[1] / rates[0], "images/s": rates[1]})
    return show("digits, as a batch against one by one", rows)


if __name__ == "__main__":
    main()
