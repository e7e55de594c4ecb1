"""Compare what the program does with the published procedure, and with a user's usual pick, in one run and one table.

    python tests/benchmarks/counterfactuals.py --data-dir MNIST --faces FACES --n 256 --published 64 --threads 1

Ratios are to the published procedure: 1,000 explicit steps each way, clamped, guided wherever it guides. On one thread
seconds are processor time, which other programs on the machine change little. Without --data-dir the bundled digits are
asked about, whose true counterfactuals are not known. FACES is a folder of drawn faces:

    python -m dscm.cli.phantoms celebahq --out FACES --n 1000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from network_cost import compare_with_products
from published import PUBLISHED
from soundness import BATCH, Counter, average, measure
from subjects import Subject, take_digits, take_faces
from timing import clock, show
from usual import UsualPick

from dscm.causal.mechanisms import Mechanism
from dscm.data.scaling import to_levels
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.files import atomic_path
from dscm.machine import USUAL
from dscm.plots.sheets import to_picture

SCRIPT = Path(__file__).parents[2] / "counterfactual.py"
EVERYWHERE = (0.0, 1000.0)
FASTEST: dict[str, Any] = {"steps": 5}
Make = Callable[[DiffusionMechanism], Mechanism[Any]]
OURS: Mapping[str, dict[str, Any]] = {
    "default": {},
    "default, guided everywhere": {"guidance_interval": EVERYWHERE},
    "fastest": FASTEST,
}
QUERIES = {"digits": ["thickness=4", "digit=3", "slant=0.2"], "faces": ["Smiling=flip", "Eyeglasses=flip", "Male=flip"]}


def main() -> None:
    """Print the tables, ratios first, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="raw MNIST (default: the 64 bundled digits)")
    parser.add_argument("--faces", type=Path, help="a folder of drawn faces (default: no faces)")
    parser.add_argument("--n", type=int, default=64, help="digits, and at most 64 faces (default: 64)")
    parser.add_argument("--published", type=int, default=16, help="images for the published procedure (default: 16)")
    parser.add_argument("--interval", action="store_true", help="also: published, but guided where ours is")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, help="a JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {args.threads} threads, seed 0")
    result: dict[str, Any] = {"device": name, "threads": args.threads, "n": args.n, "published": args.published}
    subjects = {"digits": take_digits(args.data_dir, args.n, device)}
    weights: dict[str, float | str] = {"digits": 1.5, "faces": "do=2.5"}
    if args.faces:
        subjects["faces"] = take_faces(args.faces, min(args.n, 64), device)
    for name, subject in subjects.items():
        mechanism = subject.mechanism.using(guidance=weights[name])
        few = min(args.published, len(subject.task.obs["image"]))
        rows = compare(subject, list_procedures(mechanism, args.interval), few)
        result[name] = show(f"{name}: counterfactuals at ω = {weights[name]}", rows)
        result[f"{name}, queries"] = show(f"{name}: three queries against one", compare_queries(subject, mechanism))
        result[f"{name}, pass"] = show(f"{name}: a pass of the network", compare_with_products(mechanism, device))
        rows = [time_command(subject, QUERIES[name][:k], args.threads, str(weights[name])) for k in (1, 3)]
        result[f"{name}, command"] = show(f"{name}: the whole command, from folder to folder", rows)
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def list_procedures(mechanism: DiffusionMechanism, interval: bool) -> dict[str, Mechanism[Any]]:
    """List what is compared, the published procedure first; all have the network and the weights of one mechanism."""
    weight = {"guidance": mechanism.sampling.guidance}
    published = PUBLISHED | weight | {"guidance_interval": EVERYWHERE}
    found: dict[str, Mechanism[Any]] = {"published": mechanism.using(**published)}
    if interval:
        own = {"guidance_interval": mechanism.sampling.guidance_interval}
        found["published, guided where ours is"] = mechanism.using(**published | own)
    found["usual: DDIM inversion and DDIM, 50 steps"] = UsualPick(mechanism)
    return found | {name: mechanism.using(**settings) for name, settings in OURS.items()}


def compare(subject: Subject, procedures: Mapping[str, Mechanism[Any]], few: int) -> list[dict[str, Any]]:
    """Measure each procedure in batches of one size: the published one on a few images, the others on all as well."""
    rows: list[dict[str, Any]] = []
    for name, mechanism in procedures.items():
        n = few if name.startswith("published") else len(subject.task.obs["image"])
        numbers = measure(subject, mechanism, subject.mechanism.unet, n, min(BATCH, few))
        for size in sorted({few, n}):  # at equal soundness means on the same images
            rows.append({"procedure": name, "n": size} | average(numbers, size))
            rows[-1]["times as fast"] = rows[0]["s an image"] / rows[-1]["s an image"]
        print(f"{name}: {rows[-1]['times as fast']:.3g} times as fast", file=sys.stderr, flush=True)
    return rows


@torch.no_grad()
def compare_queries(subject: Subject, mechanism: DiffusionMechanism, sizes: tuple[int, ...] = (1, 64)) -> list[Any]:
    """Time queries as a command answers them: one abduction, then a composition and the queries together."""
    scm, counter = subject.graph.scm(mechanism, subject.learned), Counter(mechanism.unet)
    names = [*subject.task.interventions][:3] or [*subject.asked]
    rows = []
    for n in sorted({min(size, len(subject.task.obs["image"])) for size in sizes}):
        task = subject.task.batch(slice(n))

        def answer(queries: int) -> tuple[float, float]:
            began, before = clock(task.obs["image"]), counter.images
            noise = scm.abduct(task.obs)
            dos = [{}, *(task.interventions[name] for name in (names * 3)[:queries])]
            worlds = scm.predict_each(noise, dos, task.obs, USUAL)
            return clock(worlds[-1]["image"]) - began, (counter.images - before) / n

        answer(1)
        seconds, evaluations = zip(*[min(answer(queries) for _ in range(2)) for queries in (1, 3)])
        row = {"images at a time": n, "times as long": seconds[1] / seconds[0]}
        rows.append(row | {"one: evaluations": evaluations[0], "three: evaluations": evaluations[1]})
    counter.handle.remove()
    return rows


def time_command(subject: Subject, queries: list[str], threads: int, guidance: str) -> dict[str, Any]:
    """Time the script about a folder of the images: start-up, all of it, and the most memory that it held."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        levels = to_levels(subject.task.obs["image"]).cpu()
        for i, image in enumerate(levels):
            to_picture(image).save(folder / f"{i:05d}.png")
        command = [sys.executable, SCRIPT, folder, "--data", subject.graph.name, "--threads", threads]
        command += ["--guidance", guidance, *(word for query in queries for word in ("--do", query))]
        run = partial(spend, [*map(str, command), "--out"])
        whole, used, memory = run(str(Path(temporary) / "out"))
        for path in sorted(folder.glob("*.png"))[1:]:
            path.unlink()
        one, _, _ = run(str(Path(temporary) / "one"))
    row = {"queries": len(queries), "n": len(levels), "images/s": len(levels) / whole, "s": whole, "of a core, s": used}
    return row | {"one image alone, s": one, "MiB": memory}


def spend(command: list[str], out: str) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of processors, and the most MiB that it held."""
    began = time.perf_counter()
    process = subprocess.Popen([*command, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
