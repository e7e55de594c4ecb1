"""What the cases are made of: a tiny set of images, and every kind of file that the scripts write, made once."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

MACHINE = ["--device", "cpu", "--threads", "1"]
KIND = ["disk, round", "+", "square"]
SIDE = 16  # pixels
GRAPH: dict[str, Any] = {
    "name": "stress",
    "variables": {
        "size": {"type": "bounded", "range": [0, 10], "unit": "mm"},
        "kind": {"type": "categorical", "values": KIND},
        "volume": {"type": "positive", "parents": ["size", "kind"]},
        "shift": {
            "type": "continuous",
            "parents": ["size"],
            "equation": {"linear-gaussian": {"weights": {"size": 0.1}, "bias": 0, "scale": 1}},
        },
        "striped": {"type": "binary", "parents": ["kind"]},
        "image": {"type": "image", "size": SIDE, "channels": 1, "parents": ["volume", "striped", "kind", "shift"]},
    },
    "interventions": [["volume"], ["striped", "kind"]],
}
COLUMNS = ["image", "size", "kind", "volume", "shift", "striped"]


@dataclass(frozen=True)
class Case:
    """One input to a script.

    Args:
        script: ``counterfactual``, ``train`` or ``evaluate``.
        words: its arguments.
        expected: whether it must succeed, must be refused, or may be either.
        room: bytes that a file may have before the disk is full; None for no limit.
    """

    script: str
    words: list[str]
    expected: Literal["fine", "wrong", "either"] = "either"
    room: int | None = None


@dataclass(frozen=True)
class Stage:
    """The prepared files, below one folder.

    Args:
        root: the folder.
        call: runs a script with some arguments, and returns its exit code.
    """

    root: Path
    call: Callable[[str, list[str]], int]

    @property
    def images(self) -> Path:
        """The folder of images, with its table."""
        return self.root / "images"

    @property
    def graph(self) -> Path:
        """The graph's file."""
        return self.root / "graph.json"

    @property
    def run(self) -> Path:
        """A run with all its parts."""
        return self.root / "run"

    @property
    def noise(self) -> Path:
        """Noise of the few images."""
        return self.root / "noise.zip"

    def prepare(self) -> None:
        """Write the images, and the files that nearly every case needs."""
        write_images(self.images, 40)
        write_images(self.root / "few", 4)
        self.graph.write_text(json.dumps(GRAPH, indent=1))
        for part in ("attributes", "oracle", "image"):
            words = [*self.train(self.run)[:4], "--data", "folder", "--run", str(self.run), "--part", part]
            self._make("train", [*words, *self._brief()])
        self._make("counterfactual", [*self.query(self.root / "answers"), "--save-noise", str(self.noise)])

    def made(self, name: str) -> Path:
        """Return the folder of a training, ``vae`` or ``spatial``, of ``soundness`` or ``answers``, made if need be."""
        folder = self.root / name
        if name == "soundness" and not folder.exists():
            self._make("evaluate", self.measure(folder))
        elif not folder.exists():
            self._make("train", [*self.train(folder), "--mechanism", name, *self._brief()])
        return folder

    def _make(self, script: str, words: list[str]) -> None:
        """Run a script that must succeed."""
        code = self.call(script, words)
        assert code == 0, f"{script}.py {words} cannot be prepared"

    def _brief(self) -> list[str]:
        """Return the arguments of a training of two steps."""
        return ["--steps", "2", "--batch", "8", "--cache-dir", str(self.root / "cache"), *MACHINE]

    def query(self, out: Path, images: Path | None = None, run: Path | None = None) -> list[str]:
        """Return the arguments of counterfactual.py for a quick query."""
        asked = ["--run", str(run or self.run), "--do", "striped=flip", "--out", str(out)]
        return [str(images or self.root / "few"), *asked, "--steps", "1", *MACHINE]

    def measure(self, out: Path, run: Path | None = None) -> list[str]:
        """Return the arguments of evaluate.py for a quick evaluation."""
        brief = ["--n", "3", "--steps", "1", "--guidance", "1", "--set", "oracle_accuracy=0"]
        return ["--run", str(run or self.run), "--out", str(out), *brief, *self.cached(out), *MACHINE]

    def train(self, out: Path, images: Path | None = None, graph: Path | None = None) -> list[str]:
        """Return the arguments of train.py for a step on the images."""
        data = ["--data-dir", str(images or self.images), "--graph", str(graph or self.graph)]
        return [*data, "--out", str(out), "--steps", "1", "--batch", "4", *self.cached(out), *MACHINE]

    def cached(self, out: Path) -> list[str]:
        """Name a cache of its own for a case."""
        return ["--cache-dir", str(out.parent / "cache")]


def rows(names: list[str]) -> list[list[str]]:
    """Make the rows of a table of attributes."""
    rng = random.Random(len(names))
    return [
        [name, f"{rng.uniform(0, 10):.3f}", rng.choice(KIND), f"{rng.uniform(1, 5):.3f}", f"{rng.gauss(0, 1):.3f}", t]
        for name, t in ((name, "01"[i % 2]) for i, name in enumerate(names))
    ]


def write_images(folder: Path, n: int) -> list[str]:
    """Write n images and their table; returns their names."""
    rng = np.random.default_rng(n)
    names = [f"{i:02}.png" for i in range(n)]
    folder.mkdir(parents=True)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)).save(folder / name)
    write_table(folder, [COLUMNS, *rows(names)])
    return names


def write_table(folder: Path, lines: list[list[str]]) -> None:
    """Write attributes.csv, each cell with a comma in quotes."""
    text = "".join(",".join(f'"{cell}"' if "," in cell else cell for cell in line) + "\n" for line in lines)
    (folder / "attributes.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
