"""What only a GPU shows, in one run of at most ten minutes: how busy it is kept, and what that is worth.

    python tests/benchmarks/gpu.py --out gpu.json

With ``--data-dir`` all test digits are drawn first, where no cache holds them, in a minute of many cores.
Everything is written as soon as it is known, the most important first. On a CPU the logic can be tried with small
numbers; trajectories then are not replayed:

    python tests/benchmarks/gpu.py --batch 4 --published 2 --steps 2 --repeats 1
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from network_cost import peak
from published import PUBLISHED, compare_alignments
from subjects import Subject, read_digits, restore, take_digits
from timing import clock, fastest, show
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dscm.data.scaling import to_signed
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.replay import Replay
from dscm.files import atomic_path

Obs = dict[str, Tensor]
MOST = 2e-4  # largest difference of a pixel on [-1, 1] between a replay in float32 and what it replays


def main() -> None:
    """Print the tables, and write all that is known after each of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="raw MNIST (default: the 64 bundled digits, repeated)")
    parser.add_argument("--batch", type=int, default=1024, help="digits at a time (default: 1024)")
    parser.add_argument("--published", type=int, default=64, help="digits for the published procedure (default: 64)")
    parser.add_argument("--steps", type=int, help="of our solver (default: as the checkpoint says)")
    parser.add_argument("--repeats", type=int, default=5, help="the fastest counts (default: 5)")
    parser.add_argument("--minutes", type=float, default=9, help="nothing is begun after so many (default: 9)")
    parser.add_argument("--out", type=Path, help="a JSON file")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, batches of {args.batch}, seed 0", flush=True)
    result: dict[str, Any] = {"device": name, "batch": args.batch}
    obs = repeat(read_digits(args.data_dir, args.batch)[0], args.batch, device)
    settings = {"steps": args.steps} if args.steps else {}
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "correct": partial(check_replay, device, obs, settings),
        "speed": partial(compare_speeds, device, obs, settings, args.published, args.repeats),
        "peak": partial(explain, device, obs, settings),
        "alignment": partial(compare_alignments, restore("semantic", device), obs),
        "soundness": partial(compare_soundness, args.data_dir, device, settings),
        "compiled": partial(compare_compiled, device, obs, settings, args.repeats),
    }
    began = time.monotonic()
    for title, work in parts.items():
        if time.monotonic() - began > 60 * args.minutes:
            print(f"no time for {title}", flush=True)
            break
        result[title] = work()
        result["seconds"] = time.monotonic() - began
        if args.out:
            with atomic_path(args.out) as temporary:
                temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def repeat(data: Obs, n: int, device: torch.device) -> Obs:
    """Repeat digits until there are n, on a device, the image in [-1, 1]."""
    index = torch.arange(n) % len(data["image"])
    obs = {name: value[index].to(device) for name, value in data.items() if name != "base"}
    return obs | {"image": to_signed(obs["image"])}


def change(obs: Obs) -> Obs:
    """Return counterfactual parents: those of another digit."""
    return {name: value.roll(1, 0) for name, value in obs.items() if name != "image"}


def answer(mechanism: DiffusionMechanism, obs: Obs) -> Tensor:
    """Abduct and predict under other parents."""
    return mechanism.predict(mechanism.abduct(obs["image"], obs), change(obs))


def as_it_is(mechanism: DiffusionMechanism) -> DiffusionMechanism:
    """Return a view of a mechanism that is never replayed."""
    view = mechanism.using()
    view.replay = Replay(devices=())
    return view


@torch.no_grad()
def check_replay(device: torch.device, obs: Obs, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare replays with what they replay, for other images than those captured, and a batch that is filled up."""
    rows, n = [], len(obs["image"])
    for name, more in {"default": {}, "guided": {"abduction": "guided"}, "residual": {"abduction": "residual"},
                       "do=3": {"guidance": "do=3"}, "2m": {"solver": "2m"}}.items():  # fmt: skip
        mechanism = restore("semantic", device).using(**settings | more)
        eager, other = as_it_is(mechanism), {key: value.flip(0) for key, value in obs.items()}
        for _ in range(3):  # as it is, captured, replayed
            answer(mechanism, obs)
        for title, part in {"other images": other, "part": {k: v[: n * 3 // 4] for k, v in other.items()}}.items():
            worst = (answer(mechanism, part) - answer(eager, part)).abs().max().item()
            known = sum(found is not None for found in mechanism.replay.seen.values())
            rows.append({"settings": name, "inputs": title, "graphs": known, "worst pixel": worst})
            rows[-1]["fine"] = worst <= MOST and (known == 2 or device.type == "cpu")
    return show("replays against what they replay", rows)


@torch.no_grad()
def compare_speeds(
    device: torch.device, obs: Obs, settings: dict[str, Any], few: int, repeats: int
) -> list[dict[str, Any]]:
    """Time an abduction and a prediction in several ways; the published procedure in batches of either size."""
    n, rows = len(obs["image"]), []
    sizes = sorted({min(64, n), n})
    for size in sorted({min(few, n), n}) if device.type == "cuda" else [min(few, n)]:
        rows.append(time_answer("published", restore("semantic", device).using(**PUBLISHED), obs, size, 1))
    for size in sizes:
        for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
            view = restore("semantic", device).using(precision=precision, **settings)
            rows.append(time_answer(f"ours, {precision}, as it is", as_it_is(view), obs, size, repeats))
            rows.append(time_answer(f"ours, {precision}, replayed", view, obs, size, repeats))
    for row in rows:
        row["times as fast"] = rows[0]["ms an image"] / row["ms an image"]
    return show("an abduction and a prediction of digits", rows)


def compare_compiled(device: torch.device, obs: Obs, settings: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    """Time a compiled network, which takes minutes to compile, so it comes last."""
    if device.type != "cuda":
        return []
    view = restore("semantic", device).using(precision="bfloat16", **settings)
    view.unet.compile(dynamic=False)
    with torch.no_grad():
        rows = [time_answer("ours, bfloat16, compiled, replayed", view, obs, len(obs["image"]), repeats)]
    return show("compiled", rows)


def time_answer(name: str, mechanism: DiffusionMechanism, obs: Obs, size: int, repeats: int) -> dict[str, Any]:
    """Time the fastest of some answers about the first images, after those that warm up or capture."""
    part = {key: value[:size] for key, value in obs.items()}
    times = repeats if mechanism.sampling.published else 2 + repeats
    seconds, _ = fastest(partial(answer, mechanism, part), part["image"], times)
    used = torch.cuda.max_memory_allocated() / 2**20 if part["image"].is_cuda else 0.0
    return {"procedure": name, "n": size, "ms an image": 1e3 * seconds / size, "MiB": used}


@torch.no_grad()
def explain(device: torch.device, obs: Obs, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare a replayed counterfactual with the peak of matrix products, and list the kernels that take the time."""
    rows, x = [], obs["image"]
    activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        mechanism = restore("semantic", device).using(precision=precision, **settings)
        with FlopCounterMode(display=False) as counter:
            answer(as_it_is(mechanism), obs)
        flops = counter.get_total_flops()
        seconds, _ = fastest(partial(answer, mechanism, obs), x, 5)
        with profile(activities=[activity]) as record:
            clock(answer(mechanism, obs))
        events = record.key_averages()
        rate, most = flops / seconds / 1e12, peak(getattr(torch, precision), device)
        row = {"precision": precision, "ms": 1e3 * seconds, "GFLOP": flops / 1e9, "TFLOP/s": rate, "peak": most}
        spent = sum(event.self_device_time_total for event in events) / 1e6 if device.type == "cuda" else seconds
        rows.append(row | {"share of peak": rate / most, "busy": spent / seconds})
        order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        print(f"\n{precision}\n{events.table(sort_by=order, row_limit=18, max_name_column_width=90)}", flush=True)
    return show("a replayed counterfactual against the peak of square matrix products", rows)


def compare_soundness(data_dir: Path | None, device: torch.device, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure that what is fast here is as sound as on a CPU."""
    from soundness import average, measure

    subject: Subject = take_digits(data_dir, 64, device)
    rows = []
    for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        view = subject.mechanism.using(precision=precision, **settings)
        n = len(subject.task.obs["image"])
        rows.append({"precision": precision, "n": n} | average(measure(subject, view, view.unet, n, 32), n))
    return show("soundness", rows)


if __name__ == "__main__":
    main()
