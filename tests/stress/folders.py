"""Cases of files and folders that the scripts wrote themselves: checkpoints, noise, runs and outputs."""

import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from damage import JUNK, odd_value, spoil_bytes, spoil_file, spoil_value
from inputs import spoil_json
from stage import MACHINE, Case, Stage

PARTS = ("image", "attributes", "oracle")
OUTPUTS = {"counterfactual": "answers", "train": "vae", "evaluate": "soundness"}


class Code:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        """Return the call."""
        return os.system, ("touch pwned",)


def spoil_checkpoint(rng: random.Random, path: Path, others: list[Path]) -> None:
    """Spoil a checkpoint: its bytes, its content, or what kind of file it is."""
    way = rng.randrange(10)
    if way < 2:
        path.write_bytes(spoil_bytes(rng, path.read_bytes()))
    elif way == 2:
        spoil_file(rng, path)
    elif way == 3:
        path.write_bytes(rng.choice([pickle.dumps(Code()), *JUNK]))
    elif way == 4:
        torch.save(rng.choice([odd_value(rng), [1], Code(), torch.zeros(3)]), path)
    elif way == 5:
        shutil.copy(rng.choice(others), path)
    else:
        content = torch.load(path, weights_only=True)
        for _ in range(rng.choice([1, 1, 3])):
            key = rng.choice(["", "graph", "config", "settings", "model", "model", "raw", "optimizer"])
            inner = content.get(key) if isinstance(content, dict) else None
            spoil_value(rng, inner if isinstance(inner, dict) else content)
        torch.save(content, path)


def checkpoints(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Use a spoilt checkpoint, in any place where one is read."""
    part = rng.choice(PARTS)
    names = [part, *(["vae", "spatial"] if part == "image" else [])]
    name = rng.choice(names)
    original = stage.run / part if name == part else stage.made(name)
    path = home / "resumed" / "checkpoint.pt"
    path.parent.mkdir()
    shutil.copy(original / "checkpoint.pt", path)
    others = [stage.images / "00.png", stage.noise, stage.graph, *(stage.run / p / "checkpoint.pt" for p in PARTS)]
    spoil_checkpoint(rng, path, others)
    out, flag = home / "out", {"image": "checkpoint"}.get(part, part)
    if part == "image" and rng.random() < 0.2:
        brief = ["--mechanism", "vae", "--set", f"oracle={stage.run / 'oracle' / 'checkpoint.pt'}"]
        return Case("train", [*stage.train(out), *brief, "--fine-tune", str(path)])
    if rng.random() < 0.3:
        words = [*stage.train(path.parent), "--part", part, "--resume", "--steps", "3", "--batch", "8"]
        return Case("train", [*words, *(["--mechanism", original.name] if original.name in ("vae", "spatial") else [])])
    if rng.random() < 0.3:
        return Case("evaluate", [*stage.measure(out), f"--{flag}", str(path)])
    return Case("counterfactual", [*stage.query(out), f"--{flag}", str(path), *rng.choice([[], ["--sample", "2"]])])


def spoil_members(rng: random.Random, path: Path) -> None:
    """Spoil, rename, drop or repeat the members of a zip archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([*members])
    content = members.pop(name)
    way = rng.randrange(5)
    if way == 0:
        members[rng.choice(["x.pt", "../x.pt", "about.json", "000009.pt"])] = content
    elif way == 1:
        members[name] = spoil_json(rng, content.decode()) if name.endswith("json") else spoil_bytes(rng, content)
    elif way == 2 and name.endswith("pt"):
        torch.save(odd_value(rng), path)
        members[name] = path.read_bytes()
    elif way == 3 and name.endswith("pt"):
        path.write_bytes(content)
        torch.save(spoil_value(rng, torch.load(path, weights_only=True)), path)
        members[name] = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def noise(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Use spoilt noise, or noise of something else."""
    path = home / "noise.zip"
    shutil.copy(stage.noise, path)
    way = rng.randrange(6)
    if way == 0:
        path.write_bytes(spoil_bytes(rng, path.read_bytes()))
    elif way == 1:
        spoil_file(rng, path)
    elif way == 2:
        shutil.copy(rng.choice([stage.graph, stage.run / "image" / "checkpoint.pt", stage.images / "00.png"]), path)
    elif way < 5:
        spoil_members(rng, path)
    words = stage.query(home / "out")
    if rng.random() < 0.4:
        words += rng.choice(
            [["--steps", "2"], ["--do", "size=+1"], ["--save-noise", str(path)], ["--abduction", "guided"]]
        )
    return Case("counterfactual", [*words, "--load-noise", str(path)])


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None if it is damaged already."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def spoil_some(rng: random.Random, folder: Path) -> None:
    """Spoil one or two files of a folder."""
    for _ in range(rng.choice([1, 1, 2])):
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        path = rng.choice(sorted(files, key=lambda path: (path.suffix, path)))
        if path.suffix == ".json" and rng.random() < 0.5 and (content := read_json(path)) is not None:
            path.write_text(json.dumps(spoil_value(rng, content)))
        elif path.suffix == ".json" and rng.random() < 0.6:
            path.write_bytes(spoil_json(rng, path.read_text(encoding="utf-8", errors="replace")))
        else:
            spoil_file(rng, path)


def runs(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Use a run folder with missing or damaged files."""
    run = home / "run"
    shutil.copytree(stage.run, run)
    names = ["graph.json", "data.json", "README.txt", rng.choice(PARTS), "image", "oracle", "attributes/log.jsonl"]
    for name in rng.sample(names, rng.choice([1, 1, 2])):
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
            rng.choice([path.touch, path.mkdir, lambda: None])()
        elif name.endswith("json") and rng.random() < 0.6:
            path.write_bytes(spoil_json(rng, path.read_text()))
        elif path.is_file():
            spoil_file(rng, path)
    way = rng.randrange(3)
    if way == 0:
        return Case("counterfactual", stage.query(home / "out", run=run))
    if way == 1:
        kept = home / "out" if rng.random() < 0.5 else run / "soundness"
        return Case("evaluate", stage.measure(kept, run))
    part = rng.choice(PARTS)
    more = rng.choice([["--resume", "--batch", "8"], ["--overwrite"], ["--check"]])
    words = ["--run", str(run), "--part", part, "--steps", "3", *more, *stage.cached(run), *MACHINE]
    return Case("train", words)


def outputs(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Write into a folder that is damaged, a file, a link or may not be written."""
    script = rng.choice([*OUTPUTS])
    out = home / "out"
    shutil.copytree(stage.made(OUTPUTS[script]), out)
    more = rng.choice([[], [], ["--overwrite"]])
    way = rng.randrange(8)
    if way < 5:
        spoil_some(rng, out)
    elif way == 5:
        shutil.rmtree(out)
        rng.choice([out.touch, lambda: out.symlink_to("out"), lambda: out.symlink_to("x"), lambda: os.mkfifo(out)])()
    elif way == 6:
        out = Path(rng.choice(["/proc/dscm", "/dev/null", "/dev/null/out", "/sys/out", str(stage.graph), "", "."]))
    else:
        out = home / rng.choice(["x" * 300, "a/" * 200 + "b", "\udcff", " ", "é\n", "..", "~", "-"])
    if script == "counterfactual":
        asked = rng.choice([[], [], ["--paste"], ["--save-noise", str(home / rng.choice(["n.zip", "n/n.zip", "out"]))]])
        return Case(script, [*stage.query(out), *asked, *more])
    if script == "evaluate":
        words = stage.measure(out)
        return Case(script, [*words, *more, *rng.choice([[], ["--figures"]]), *stage.cached(home / "x")])
    words = [*stage.train(out), "--mechanism", "vae", "--batch", "8", "--steps", "3", *stage.cached(home / "x")]
    return Case(script, [*words, *(more or ["--resume"])])


def caches(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Use decoded images that are damaged."""
    shutil.copytree(stage.root / "cache", home / "cache")
    spoil_some(rng, home / "cache")
    part = rng.choice(["oracle", "image"])
    return Case("train", [*stage.train(home / "out"), "--part", part, *rng.choice([[], ["--check"]])])


def full(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Write on a disk that becomes full."""
    room = int(10 ** rng.uniform(3.3, 5.5))
    out = home / "out"
    words = {
        "counterfactual": [
            *stage.query(out),
            *rng.choice([[], ["--paste"], ["--save-noise", str(home / "noise.zip")]]),
        ],
        "train": [*stage.train(out), "--part", rng.choice(PARTS)],
        "evaluate": [*stage.measure(out), *rng.choice([[], ["--figures"]])],
    }
    script = rng.choice([*words])
    return Case(script, words[script], room=room)


KINDS: Mapping[str, Callable[[Stage, random.Random, Path], Case]] = {
    "checkpoints": checkpoints,
    "noise": noise,
    "runs": runs,
    "outputs": outputs,
    "caches": caches,
    "full": full,
}
