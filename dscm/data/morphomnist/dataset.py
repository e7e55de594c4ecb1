"""Morpho-MNIST: MNIST digits redrawn with attributes sampled from a causal graph."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dscm.causal.graph import Graph
from dscm.data.morphomnist.folder import File, is_morpho_folder, read_digits, read_images, read_split, write_split
from dscm.data.morphomnist.idx import find_idx
from dscm.data.morphomnist.measure import measure
from dscm.data.morphomnist.render import colourise, measure_hue, render
from dscm.data.split import Split
from dscm.errors import EmptySplit, InputError, option
from dscm.graphs import GRAPHS
from dscm.machine import worker_pool

FILES: dict[Split, File] = {"train": "train", "valid": "train", "test": "t10k"}  # that hold a split
VALID_SHARE = 6  # the last sixth of the training digits is for validation, as published: 10,000 of 60,000
MORPHED = ("thickness", "slant", "intensity")  # attributes that the renderer sets on a grey digit
# Fractions of the digits of which an attribute is set, as by an intervention: to the slant as it was written, or to a
# uniform value. What the attribute causes follows it. They extend the support of the data, so that interventions rarely
# leave it: without uniform slants few zeros lean right. The paper mixes slant, as written, and hue (eq. 36, 42 and 43).
WRITTEN = "written slant"
MIXTURE = {"thickness": 0.2, WRITTEN: 0.2, "slant": 0.2, "intensity": 0.2, "hue": 0.5}
PUBLISHED = {WRITTEN: 0.2, "hue": 0.5}
UNIFORM = {"thickness": (1.2, 6.0), "slant": (-0.65, 0.65), "intensity": (64.0, 255.0), "hue": (0.0, 1.0)}
SEEDS: dict[File, int] = {"train": 0, "t10k": 1}
VERSION = 4  # of the generated images; raise it when the same settings give others
CHUNK = 500  # digits per task of a worker


def load(
    graph: Graph, data_dir: Path | None, split: Split, cache_dir: Path, workers: int = 1, mixture: bool = True
) -> dict[str, Tensor]:
    """Load a split of Morpho-MNIST for a graph; from raw MNIST, it is generated once.

    Args:
        graph: the causal graph.
        data_dir: a folder of raw MNIST, which may lie in its ``MNIST/raw`` as torchvision keeps it, or of
            Morpho-MNIST; None downloads MNIST through torchvision.
        split: ``train`` (of MNIST the first 50,000 digits), ``valid`` (the last 10,000 of the training file) or
            ``test`` (10,000).
        cache_dir: the folder of generated sets and downloads.
        workers: number of processes that generate.
        mixture: whether the fractions `MIXTURE` of the digits do not follow the graph, or those of the paper. It has no
            effect on a folder of Morpho-MNIST.

    Returns:
        ``image`` uint8 (N, C, 28, 28), one tensor (N,) for each attribute of the graph, and ``base``, the digits
        uint8 (N, 1, 28, 28) from which `redraw` makes true counterfactuals.

    Raises:
        EmptySplit: there are too few digits for validation.
        InputError: the folder or one of its files is missing or damaged, or no digits are drawn with the attributes
            of the graph.
    """
    return _cut(_load_file(graph, data_dir, FILES[split], cache_dir, workers, mixture), split)


def load_training(
    graph: Graph, data_dir: Path | None, cache_dir: Path, workers: int = 1, mixture: bool = True
) -> dict[Split, dict[str, Tensor]]:
    """Load both splits of the training file as `load`; that for validation is left out if there are too few digits."""
    digits = _load_file(graph, data_dir, "train", cache_dir, workers, mixture)
    splits: dict[Split, dict[str, Tensor]] = {"train": _cut(digits, "train")}
    with contextlib.suppress(EmptySplit):
        splits["valid"] = _cut(digits, "valid")
    return splits


def _cut(data: Mapping[str, Tensor], split: Split) -> dict[str, Tensor]:
    """Take a split, or raise `EmptySplit`, out of all digits of its file."""
    first = len(data["image"]) - len(data["image"]) // VALID_SHARE
    part = {"train": slice(first), "valid": slice(first, None), "test": slice(None)}[split]
    chosen = {name: value[part] for name, value in data.items()}
    if not len(chosen["image"]):
        raise EmptySplit(f"split {split!r}: no digits; {len(data['image'])} are too few to keep a sixth for validation")
    return chosen


def generate(
    graph: Graph,
    base: Tensor,
    digit: Tensor,
    seed: int,
    workers: int = 1,
    mixture: Mapping[str, float] = MIXTURE,
) -> dict[str, Tensor]:
    """Sample attributes from the graph for each digit and redraw it with them.

    The returned attributes are measured on the redrawn digits.

    Args:
        graph: the causal graph.
        base: MNIST digits, uint8 (N, 1, 28, 28).
        digit: their classes, int64 (N,).
        seed: seed of the attributes.
        workers: number of processes; the result does not depend on it.
        mixture: by attribute, causes before effects, the fraction of the digits in which it is set to a uniform value,
            or by `WRITTEN` to the slant as it was written.

    Returns:
        ``image`` uint8 (N, C, 28, 28), ``digit``, and one float32 tensor (N,) for each other attribute.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(base)
    scm, do = graph.scm(), {"digit": digit}
    noise = scm.sample_noise(n, generator)
    target = scm.predict(noise, do)
    for kind, share in mixture.items():
        if (name := "slant" if kind == WRITTEN else kind) in target:
            other = _draw_independent(kind, base, generator)
            do[name] = torch.where(torch.rand(n, generator=generator) < share, other, target[name])
            target = scm.predict(noise, do)
    chunks = [(base[i : i + CHUNK], {k: v[i : i + CHUNK] for k, v in target.items()}) for i in range(0, n, CHUNK)]
    with worker_pool(workers) as pool:
        images = list(tqdm(pool.map(_redraw_chunk, chunks), total=len(chunks), desc="drawing digits", unit_scale=CHUNK))
    image = torch.cat(images)
    measured = measure_attributes(image, [name for name in target if name != "digit"])
    if "hue" in measured:  # in the same period as its target, so that the linear equation still holds
        measured["hue"] = target["hue"] + (measured["hue"] - target["hue"] + 0.5) % 1 - 0.5
    return {"image": image, "digit": digit, **measured}


def _load_file(
    graph: Graph, data_dir: Path | None, file: File, cache_dir: Path, workers: int, mixture: bool
) -> dict[str, Tensor]:
    """Load all digits of the training or the test file as `load`, with the same arguments."""
    graph, shares = _with_equations(graph), MIXTURE if mixture else PUBLISHED
    names = [variable.name for variable in graph.attributes if variable.name != "digit"]
    if data_dir is not None and is_morpho_folder(data_dir):
        data = read_split(data_dir, file, names, partial(measure_attributes, names=names))
        return data | {"base": data["image"].amax(dim=1, keepdim=True)}
    raw = Path(data_dir) if data_dir is not None else _download(cache_dir)
    if not raw.is_dir():
        allowed = "raw MNIST (IDX files) or a Morpho-MNIST folder"
        raise InputError(f"{raw}: no such folder; {option('data_dir')} takes {allowed}")
    raw = _find_raw(raw)
    path = find_idx(raw, f"{file}-images-idx3-ubyte")
    base = read_images(path)
    if base.shape[1] != 1:
        raise InputError(f"{path}: images in colour; raw MNIST is grey, and Morpho-MNIST has a CSV file beside it")
    digit = read_digits(find_idx(raw, f"{file}-labels-idx1-ubyte"), len(base))
    if not {*MORPHED, "hue"} & set(names):
        return {"image": base, "digit": digit, "base": base}
    return _cached(graph, base, digit, file, cache_dir, workers, shares) | {"base": base}


def redraw(base: Tensor, attributes: Mapping[str, Tensor]) -> Tensor:
    """Redraw digits with other attributes, which gives true counterfactuals.

    Args:
        base: the digits, uint8 (N, 1, 28, 28).
        attributes: the targets, each (N,): thickness in pixels, slant in radians, intensity in grey levels, hue as a
            fraction of the colour circle. Others are ignored: a drawing does not tell how its writer draws the other
            digits.

    Returns:
        uint8 (N, 1, 28, 28), or (N, 3, 28, 28) if a hue is given.
    """
    image = render(base, attributes.get("thickness"), attributes.get("slant"), attributes.get("intensity"))
    return colourise(image, attributes["hue"]) if "hue" in attributes else image


def measure_attributes(image: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Measure the attributes ``names`` of digits, uint8 (N, C, 28, 28); each float32 (N,)."""
    result = measure(image, tuple(name for name in names if name in MORPHED))
    if "hue" in names:
        result["hue"] = measure_hue(image)
    return result


def _with_equations(graph: Graph) -> Graph:
    """Return the built-in graph with the same attributes if a user's graph has some without an equation."""
    if not graph.learned:
        return graph
    names = {variable.name for variable in graph.attributes}
    for known in GRAPHS.values():
        if known.data_set == graph.data_set and {variable.name for variable in known.attributes} == names:
            return known
    raise InputError(f"graph '{graph.name}': no digits are drawn with the attributes {', '.join(sorted(names))}")


def _draw_independent(kind: str, base: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a value for each digit in ``base`` independently of the graph, float32 (N,), of a kind in `MIXTURE`."""
    if kind == WRITTEN:
        return measure(base, ("slant",))["slant"]
    low, high = UNIFORM[kind]
    return low + (high - low) * torch.rand(len(base), generator=generator)


def _redraw_chunk(chunk: tuple[Tensor, dict[str, Tensor]]) -> Tensor:
    """Redraw one chunk in a worker process."""
    return redraw(*chunk)


def _cached(
    graph: Graph,
    base: Tensor,
    digit: Tensor,
    file: File,
    cache_dir: Path,
    workers: int,
    mixture: Mapping[str, float],
) -> dict[str, Tensor]:
    """Read a generated file from the cache; generate it first if it is absent."""
    settings = {
        "graph": graph.name,
        "split": file,
        "seed": SEEDS[file],
        "mixture": dict(mixture),
        "uniform": UNIFORM,
        "version": VERSION,
        "source": hashlib.sha256(base.numpy().tobytes() + digit.numpy().tobytes()).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir / f"{graph.name}-{file}-{key}"
    if not folder.is_dir():
        data = generate(graph, base, digit, SEEDS[file], workers, mixture)
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".making-") as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            write_split(new, file, data)
            (new / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")
            try:
                new.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process has written an equal folder
                    raise
    names = [variable.name for variable in graph.attributes if variable.name != "digit"]
    return read_split(folder, file, names)


def _find_raw(folder: Path) -> Path:
    """Return the folder of IDX files: the one named, or the one below it in which torchvision keeps them."""
    places = (folder, folder / "raw", folder / "MNIST" / "raw")
    return next((place for place in places if any(place.glob("*idx?-ubyte*"))), folder)


def _download(cache_dir: Path) -> Path:
    """Download MNIST through torchvision and return the folder of its IDX files."""
    from torchvision.datasets import MNIST

    try:
        return Path(MNIST(cache_dir, download=True).raw_folder)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        message = f"MNIST could not be downloaded ({reason}); give its folder with {option('data_dir')}"
        raise InputError(message) from error
