"""Write sets of drawn images as CelebAMask-HQ and EMBED are published, or as a plain folder with attributes."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dscm.data.celeba import ANNOTATION, FOLDER, HEADER, IMAGES, MAPPING, PARTITION
from dscm.data.phantoms import faces, mammograms
from dscm.data.table import write_csv
from dscm.errors import InputError
from dscm.causal.graph_file import CELEBA_ATTRIBUTES

Kind = Literal["celebahq", "embed"]
RECIPE = "phantoms.json"  # at the folder's top: with it, true counterfactuals can be drawn
VERSION = 1  # of what is drawn; raise it when the same seed gives other images
MARKERS, FINDINGS = "markers.csv", "findings.csv"
FIRST_PATIENT = 10_000_000  # so that all have eight digits
CHUNK = 64  # images in one task of a worker


@dataclass(frozen=True)
class Recipe:
    """Say what a folder was made from: the kind of the set, the number of images, the seed, and `VERSION`."""

    kind: Kind
    n: int
    seed: int
    version: int = VERSION


def write_set(folder: Path, recipe: Recipe, workers: int = 1) -> None:
    """Draw a set of images and write it, with its tables and its recipe.

    Args:
        folder: an empty folder.
        recipe: of the set.
        workers: processes that draw; the files do not depend on their number.
    """
    {"celebahq": _write_celebahq, "embed": _write_embed}[recipe.kind](folder, recipe.n, recipe.seed, workers)
    (folder / RECIPE).write_text(json.dumps(asdict(recipe)) + "\n")


def write_plain(folder: Path, recipe: Recipe, workers: int = 1) -> None:
    """Draw images and write them with ``attributes.csv`` beside them, as counterfactual.py takes a folder.

    Args:
        folder: an empty folder.
        recipe: of the images, which are the same as in the set.
        workers: processes that draw.
    """
    generator, save, name = {
        "celebahq": (faces, _save_faces, _name_face),
        "embed": (mammograms, _save_mammograms, _name_mammogram),
    }[recipe.kind]
    _draw(partial(save, folder, recipe.seed), recipe.n, workers)
    index = torch.arange(recipe.n)
    drawn = generator.draw_attributes(recipe.seed, index)
    names = {"image": [name(i) for i in range(recipe.n)]}
    write_csv(folder / "attributes.csv", names | {name: values.tolist() for name, values in drawn.items()})


def read_recipe(folder: Path) -> Recipe | None:
    """Read what a folder was made from; None where it wasn't drawn here, or by another version of the drawing.

    Args:
        folder: of a data set.

    Raises:
        InputError: the recipe is damaged.
    """
    path = folder / RECIPE
    if not path.is_file():
        return None
    try:
        recipe = Recipe(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a recipe with kind, n, seed and version: {error}") from error
    return recipe if recipe.version == VERSION else None


def _write_celebahq(folder: Path, n: int, seed: int, workers: int) -> None:
    """Write faces; every tenth original is for validation or testing, by its name, as in CelebA."""
    images = folder / FOLDER / IMAGES
    images.mkdir(parents=True)
    _draw(partial(_save_faces, images, seed), n, workers)

    original = np.random.default_rng(seed).permutation(n).tolist()
    widths = [12, 12, 0]
    rows = [HEADER, *([str(i), str(k), f"{k + 1:06}.jpg"] for i, k in enumerate(original))]
    _write_lines(folder / FOLDER / MAPPING, ["".join(map(str.ljust, row, widths)) for row in rows])
    _write_lines(folder / PARTITION, [f"{k + 1:06}.jpg {max(0, 10 * k // n - 7)}" for k in range(n)])

    drawn = faces.draw_attributes(seed, torch.arange(n))
    no = [0] * n
    columns = zip(*(drawn[name].tolist() if name in drawn else no for name in CELEBA_ATTRIBUTES))
    rows = [f"{i}.jpg  {' '.join('1' if value else '-1' for value in row)}" for i, row in enumerate(columns)]
    _write_lines(folder / FOLDER / ANNOTATION, [str(n), " ".join(CELEBA_ATTRIBUTES), *rows])


def _write_embed(folder: Path, n: int, seed: int, workers: int) -> None:
    """Write mammograms, a table of the markers on them, and one of what they show."""
    (folder / "images").mkdir()
    _draw(partial(_save_mammograms, folder / "images", seed), n, workers)

    index = torch.arange(n)
    drawn = {name: values.tolist() for name, values in mammograms.draw_attributes(seed, index).items()}
    patients = (FIRST_PATIENT + mammograms.patient_of(index)).tolist()
    keys = {"image_path": [f"images/{_name_mammogram(i)}" for i in range(n)], "empi_anon": patients}
    write_csv(folder / MARKERS, keys | {name: drawn[name] for name in ("circle marker", "triangle marker")})
    density = [1 + value for value in drawn["density"]]
    write_csv(folder / FINDINGS, keys | {"tissueden": density, "is_positive": drawn["cancer"]})


def _draw(save: Callable[[range], int], n: int, workers: int) -> None:
    """Let worker processes draw and save n images, in parts that do not depend on the number of workers."""
    parts = [range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    with (
        ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        tqdm(total=n, desc="drawing", unit="image") as bar,
    ):
        for count in pool.map(save, parts):
            bar.update(count)


def _save_faces(folder: Path, seed: int, part: range) -> int:
    """Draw and save some faces; return how many."""
    index = torch.tensor(part)
    images = faces.redraw(seed, index, faces.draw_attributes(seed, index))
    for i, image in zip(part, images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / _name_face(i), **faces.JPEG)
    return len(part)


def _save_mammograms(folder: Path, seed: int, part: range) -> int:
    """Draw and save some mammograms; return how many."""
    index = torch.tensor(part)
    images = mammograms.redraw(seed, index, mammograms.draw_attributes(seed, index))
    for i, image in zip(part, images):
        Image.fromarray(image).save(folder / _name_mammogram(i), compress_level=1)  # noise hardly compresses
    return len(part)


def _name_face(index: int) -> str:
    """Return the name of a face's file."""
    return f"{index}.jpg"


def _name_mammogram(index: int) -> str:
    """Return the name of a mammogram's file; in the order of these, the images are in that of their indices."""
    return f"{index:06}.png"


def _write_lines(path: Path, lines: list[str]) -> None:
    """Write lines of text."""
    path.write_text("\n".join(lines) + "\n")
