"""Coloured shapes whose causal model is known: a data set that the program has never seen, for the tests.

size ~ U(0.4, 0.8)                                 of the picture's side, across
warmth = 1 / (1 + exp(-(6·size − 3.6 + 0.8·ε)))    from blue (0) to red (1): a mediator
kind = disk, square or cross, equally often
striped = 1[u < 0.2 if it is a disk, 0.5 if a square, 0.8 if a cross]
image = the shape, at a place and on a shade of grey of its own
"""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tests.support.scripts import MACHINE

SIZE = 32
KINDS = ("disk", "square", "cross")
STRIPED = torch.tensor([0.2, 0.5, 0.8])
GRAPH = {
    "name": "shapes",
    "variables": {
        "size": {"type": "bounded", "range": [0.3, 0.9]},
        "warmth": {"type": "bounded", "range": [0, 1], "parents": ["size"]},
        "kind": {"type": "categorical", "values": list(KINDS)},
        "striped": {"type": "binary", "parents": ["kind"]},
        "image": {"type": "image", "size": SIZE, "channels": 3, "parents": ["size", "warmth", "kind", "striped"]},
    },
}


def draw_attributes(n: int, generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw attributes, each (n,), and the noise that made them."""
    noise = {"warmth": torch.randn(n, generator=generator), "striped": torch.rand(n, generator=generator)}
    size = 0.4 + 0.4 * torch.rand(n, generator=generator)
    kind = torch.randint(3, (n,), generator=generator)
    return follow({"size": size, "kind": kind}, noise), noise


def follow(causes: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute all attributes from the two roots and the noise of the others."""
    warmth = (6 * causes["size"] - 3.6 + 0.8 * noise["warmth"]).sigmoid()
    striped = (noise["striped"] < STRIPED[causes["kind"]]).long()
    return {"size": causes["size"], "warmth": warmth, "kind": causes["kind"], "striped": striped}


def draw_nuisance(n: int, generator: torch.Generator) -> Tensor:
    """Draw where each shape lies, across and down, and the shade behind it, (n, 3)."""
    return torch.rand(n, 3, generator=generator)


def render(attributes: dict[str, Tensor], nuisance: Tensor) -> Tensor:
    """Paint images, uint8 (n, 3, SIZE, SIZE); four times finer, then averaged."""
    fine = 4 * SIZE
    line = (torch.arange(fine) + 0.5) / fine
    y, x = line[:, None], line[None, :]
    size, warmth, kind, striped = (attributes[name][:, None, None] for name in ("size", "warmth", "kind", "striped"))
    across, down, shade = (nuisance[:, i, None, None] for i in range(3))
    half = size / 2
    u, v = x - (half + across * (1 - size)), y - (half + down * (1 - size))
    disk = u.square() + v.square() < half.square()
    square = torch.maximum(u.abs(), v.abs()) < 0.85 * half
    cross = torch.minimum(u.abs(), v.abs()).lt(0.3 * half) & torch.maximum(u.abs(), v.abs()).lt(half)
    inside = torch.where(kind == 0, disk, torch.where(kind == 1, square, cross))
    dark = (striped == 1) & ((10 * v / size) % 2 < 1)
    level = torch.where(dark, 0.45, 1.0)
    colour = torch.stack([warmth * level, 0.3 * level, (1 - warmth) * level], dim=1)  # (n, 3, fine, fine)
    image = torch.where(inside[:, None], colour, (0.5 + 0.4 * shade)[:, None])
    image = image.reshape(len(image), 3, SIZE, 4, SIZE, 4).mean(dim=(3, 5))
    return (255 * image).round().to(torch.uint8)


def write_set(folder: Path, n: int, seed: int = 0) -> None:
    """Write n images, their attributes.csv, and beside the folder graph.json."""
    generator = torch.Generator().manual_seed(seed)
    attributes, _ = draw_attributes(n, generator)
    images = render(attributes, draw_nuisance(n, generator))
    folder.mkdir(parents=True)
    with open(folder / "attributes.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *attributes])
        for i, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:05}.png")
            values = {name: value[i].item() for name, value in attributes.items()}
            table.writerow([f"{i:05}.png", *(values | {"kind": KINDS[values["kind"]]}).values()])
    (folder.parent / "graph.json").write_text(json.dumps(GRAPH))


def arguments(folder: Path) -> tuple[Any, ...]:
    """Return the arguments of a script that lead to the set of `write_set` in ``folder / images``, and its cache."""
    return "--data-dir", folder / "images", "--cache-dir", folder / "cache", *MACHINE
