"""Morpho-MNIST made from MNIST: real digits redrawn with the attributes that a causal graph draws for them."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from dscm.data.morphomnist.idx import find_idx, read_idx
from dscm.data.morphomnist.folder import is_morpho_folder, read_split, write_split
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.data.morphomnist.render import colourise, measure_hue, render
from dscm.data.morphomnist.measure import measure

Split = Literal["train", "t10k"]
MORPHED = ("thickness", "slant", "intensity")  # what the renderer sets on a grey digit
# Shares of the digits that do not follow the graph's equation, so that hardly a combination that an intervention
# may ask for is off the support of the data: they keep the slant of their own hand, or take a uniform value.
MIXTURE = {"slant": 0.2, "intensity": 0.2, "hue": 0.5}
UNIFORM = {"intensity": (64.0, 255.0), "hue": (0.0, 1.0)}
VERSION = 3  # of what is generated; raise it when the same settings give other images
CHUNK = 500  # digits in one task of a worker


def load(graph: Graph, data_dir: Path | None, split: Split, cache_dir: Path, workers: int = 1) -> dict[str, Tensor]:
    """Load a split of Morpho-MNIST for a graph, generating it once where only MNIST is given.

    Args:
        graph: the causal graph whose attributes are wanted.
        data_dir: a folder of raw MNIST or of Morpho-MNIST; None downloads MNIST through torchvision.
        split: ``train`` (60,000 digits) or ``t10k`` (10,000).
        cache_dir: where generated sets and downloads are kept.
        workers: processes that generate.

    Returns:
        ``image`` uint8 (N, C, 28, 28), one tensor (N,) for each attribute of the graph, and ``base``: the
        drawings uint8 (N, 1, 28, 28) from which `redraw` makes true counterfactuals.

    Raises:
        InputError: the folder or one of its files is missing or damaged.
    """
    names = [variable.name for variable in graph.attributes if variable.name != "digit"]
    if data_dir is not None and is_morpho_folder(data_dir):
        data = read_split(data_dir, split, names, partial(measure_attributes, names=names))
        return data | {"base": data["image"].amax(dim=1, keepdim=True)}
    raw = Path(data_dir) if data_dir is not None else _download(cache_dir)
    if not raw.is_dir():
        raise InputError(f"{raw}: no such folder; --data-dir takes raw MNIST (IDX files) or a Morpho-MNIST folder")
    base = read_idx(find_idx(raw, f"{split}-images-idx3-ubyte"))[:, None]
    digit = read_idx(find_idx(raw, f"{split}-labels-idx1-ubyte")).long()
    if len(base) != len(digit):
        raise InputError(f"{raw}: {split} has {len(base)} images but {len(digit)} labels")
    if not {*MORPHED, "hue"} & set(names):
        return {"image": base, "digit": digit, "base": base}
    return _cached(graph, base, digit, split, cache_dir, workers) | {"base": base}


def generate(graph: Graph, base: Tensor, digit: Tensor, seed: int, workers: int = 1) -> dict[str, Tensor]:
    """Draw attributes from the graph's equations for each digit and redraw it with them.

    The shares `MIXTURE` of the digits take another slant, intensity or hue than the equations say, so that
    hardly a combination that an intervention may ask for is off the support of the data. What is recorded is measured
    on the result.

    Args:
        graph: the causal graph.
        base: MNIST digits, uint8 (N, 1, 28, 28).
        digit: their classes, int64 (N,).
        seed: of the attributes.
        workers: processes; the result does not depend on their number.

    Returns:
        ``image`` uint8 (N, C, 28, 28), ``digit``, and one float32 tensor (N,) for each other attribute.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(base)
    asked = graph.scm().sample(n, generator, do={"digit": digit})
    for name in MIXTURE:
        if name in asked:
            other = _draw_otherwise(name, base, generator)
            asked[name] = torch.where(torch.rand(n, generator=generator) < MIXTURE[name], other, asked[name])
    chunks = [(base[i : i + CHUNK], {k: v[i : i + CHUNK] for k, v in asked.items()}) for i in range(0, n, CHUNK)]
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        images = list(tqdm(pool.map(_redraw_chunk, chunks), total=len(chunks), desc="drawing digits", unit_scale=CHUNK))
    image = torch.cat(images)
    names = [name for name in asked if name != "digit"]
    got = measure_attributes(image, names)
    if "hue" in got:  # the turn of the circle that was asked for, so that the linear equation still holds
        got["hue"] = asked["hue"] + (got["hue"] - asked["hue"] + 0.5) % 1 - 0.5
    return {"image": image, "digit": digit, **got}


def redraw(base: Tensor, attributes: Mapping[str, Tensor]) -> Tensor:
    """Draw each digit with other attributes: the true image, or the true counterfactual, of a drawing.

    Args:
        base: the drawings, uint8 (N, 1, 28, 28).
        attributes: targets (N,); thickness px, slant rad, intensity grey levels, hue. Others are ignored:
            no drawing of one digit says how the same hand writes another.

    Returns:
        uint8 (N, 1, 28, 28), or (N, 3, 28, 28) where a hue is given.
    """
    image = render(base, **{name: attributes[name] for name in MORPHED if name in attributes})
    return colourise(image, attributes["hue"]) if "hue" in attributes else image


def measure_attributes(image: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Measure the attributes ``names`` of images, uint8 (N, C, 28, 28); float32 tensors (N,)."""
    result = measure(image, tuple(name for name in names if name in MORPHED))
    if "hue" in names:
        result["hue"] = measure_hue(image)
    return result


def _draw_otherwise(name: str, base: Tensor, generator: torch.Generator) -> Tensor:
    """Give each digit in ``base`` a value of ``name`` that owes nothing to the graph, float32 (N,)."""
    if name == "slant":
        return measure(base, ("slant",))["slant"]
    low, high = UNIFORM[name]
    return low + (high - low) * torch.rand(len(base), generator=generator)


def _redraw_chunk(chunk: tuple[Tensor, dict[str, Tensor]]) -> Tensor:
    """Redraw one chunk in a worker process."""
    return redraw(*chunk)


def _cached(
    graph: Graph, base: Tensor, digit: Tensor, split: Split, cache_dir: Path, workers: int
) -> dict[str, Tensor]:
    """Read a generated split from the cache, generating it first where it is not there."""
    settings = {
        "graph": graph.name,
        "split": split,
        "seed": {"train": 0, "t10k": 1}[split],
        "mixture": MIXTURE,
        "uniform": UNIFORM,
        "version": VERSION,
        "source": hashlib.sha256(base.numpy().tobytes() + digit.numpy().tobytes()).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir / f"{graph.name}-{split}-{key}"
    if not folder.is_dir():
        data = generate(graph, base, digit, settings["seed"], workers)
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".making-") as temporary:
            made = Path(temporary) / folder.name
            made.mkdir()
            write_split(made, split, data)
            (made / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster and made the same
                    raise
    names = [variable.name for variable in graph.attributes if variable.name != "digit"]
    return read_split(folder, split, names)


def _download(cache_dir: Path) -> Path:
    """Download MNIST through torchvision and return the folder of its IDX files."""
    from torchvision.datasets import MNIST

    try:
        return Path(MNIST(cache_dir, download=True).raw_folder)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"MNIST could not be downloaded ({reason}); give its folder with --data-dir") from error
