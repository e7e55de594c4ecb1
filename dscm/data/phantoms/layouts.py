"""Write synthetic data sets in the layouts of CelebAMask-HQ and EMBED, or as folders with attributes.csv."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dscm.data.celeba_tables import PARTITION
from dscm.data.celebahq import ANNOTATION, FOLDER, HEADER, IMAGES, MAPPING
from dscm.data.group import GROUP
from dscm.data.own import ATTRIBUTES
from dscm.data.phantoms import faces, mammograms, pendulum
from dscm.data.table import write_csv
from dscm.errors import InputError, option
from dscm.graphs import CELEBA_ATTRIBUTES
from dscm.machine import worker_pool

Kind = Literal["celebahq", "embed", "pendulum"]
RECIPE = "phantoms.json"  # at the top of the folder; true counterfactuals are drawn from it
VERSION = 1  # of the images; raise it when the same seed gives others
MARKERS, FINDINGS = "markers.csv", "findings.csv"
CHUNK = 64  # images per task of a worker
TEST_EVERY, VALID_EVERY = 5, 10  # of pendulums, a fifth is for testing, as published, and a tenth for validation


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a synthetic data set.

    Args:
        kind: the data set whose layout it has.
        n: number of images that are drawn.
        seed: seed of everything random.
        version: `VERSION` when it was drawn.
        real: number of real mammograms with markers drawn onto them, besides.
        versions: how many of each there are.
        drawn_versions: how many consecutive drawings are of one mammogram, with other markers.
        grouped: how many consecutive versions of a real mammogram have their markers at the same places, and so are a
            group; in the sets of earlier programs each had other places.
    """

    kind: Kind
    n: int
    seed: int
    version: int = VERSION
    real: int = 0
    versions: int = 0
    drawn_versions: int = 1
    grouped: int = 1


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes ``path`` when the block succeeds.

    Args:
        path: absent or an empty folder; missing parents are created.

    Raises:
        InputError: ``path`` is a file or a folder with content.
    """
    path = path.absolute()
    if path.exists() and not path.is_dir():
        raise InputError(f"{option('out')} {path}: a file of that name exists")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{option('out')} {path}: the folder is not empty; name a new one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        yield folder
        folder.replace(path)


def write_set(folder: Path, recipe: Recipe, workers: int = 1) -> None:
    """Draw a data set and write its images, tables and recipe.

    Args:
        folder: an empty folder.
        recipe: the recipe of the data set.
        workers: number of processes that draw; the files do not depend on it.
    """
    write = {"celebahq": _write_celebahq, "embed": _write_embed, "pendulum": _write_pendulum}[recipe.kind]
    write(folder, recipe, workers)
    (folder / RECIPE).write_text(json.dumps(asdict(recipe)) + "\n")


def write_plain(folder: Path, recipe: Recipe, workers: int = 1) -> None:
    """Draw the images of a data set and write them into one folder with ``attributes.csv``.

    Args:
        folder: an empty folder.
        recipe: the recipe of the data set.
        workers: number of processes that draw; the files do not depend on it.
    """
    draw_attributes, save, name = {
        "celebahq": (faces.draw_attributes, _save_faces, _name_face),
        "embed": (mammograms.draw_attributes, _save_mammograms, name_png),
        "pendulum": (pendulum.draw_attributes, _save_pendulum, name_png),
    }[recipe.kind]
    _draw(partial(save, folder, recipe.seed), recipe.n, workers)
    drawn = draw_attributes(recipe.seed, torch.arange(recipe.n))
    columns = {"image": [name(i) for i in range(recipe.n)], **{name: value.tolist() for name, value in drawn.items()}}
    write_csv(folder / ATTRIBUTES, columns)


def read_recipe(folder: Path) -> Recipe | None:
    """Read the recipe of a data set.

    Args:
        folder: the folder of the data set.

    Returns:
        The recipe; None if there is none, as for real images, or if it has another `VERSION`.

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


def _write_celebahq(folder: Path, recipe: Recipe, workers: int) -> None:
    """Write faces in the layout of CelebAMask-HQ; a tenth of them is for validation, a tenth for testing."""
    n, seed = recipe.n, recipe.seed
    images = folder / FOLDER / IMAGES
    images.mkdir(parents=True)
    _draw(partial(_save_faces, images, seed), n, workers)

    original = np.random.default_rng(seed).permutation(n).tolist()
    mapping = [HEADER, *([str(i), str(k), f"{k + 1:06}.jpg"] for i, k in enumerate(original))]
    _write_lines(folder / FOLDER / MAPPING, ["".join(map(str.ljust, row, (12, 12, 0))) for row in mapping])
    _write_lines(folder / PARTITION, [f"{k + 1:06}.jpg {max(0, 10 * k // n - 7)}" for k in range(n)])

    drawn = faces.draw_attributes(seed, torch.arange(n))
    columns = [drawn[name].tolist() if name in drawn else [0] * n for name in CELEBA_ATTRIBUTES]
    rows = [f"{i}.jpg  {' '.join('1' if value else '-1' for value in row)}" for i, row in enumerate(zip(*columns))]
    _write_lines(folder / FOLDER / ANNOTATION, [str(n), " ".join(CELEBA_ATTRIBUTES), *rows])


def _write_embed(folder: Path, recipe: Recipe, workers: int) -> None:
    """Write mammograms in the layout of EMBED, with a table of markers and one of findings."""
    (folder / "images").mkdir()
    write_mammograms(folder / "images", recipe, workers)
    index = torch.arange(recipe.n)
    attributes = mammograms.draw_attributes(recipe.seed, index, recipe.drawn_versions)
    drawn = {name: values.tolist() for name, values in attributes.items()}
    markers, density = {name: drawn[name] for name in mammograms.MARKERS}, [1 + value for value in drawn["density"]]
    group = index // recipe.drawn_versions
    write_embed_tables(folder, mammograms.number_patients(group), group.tolist(), markers, density, drawn["cancer"])


def write_mammograms(folder: Path, recipe: Recipe, workers: int) -> None:
    """Draw the drawings of a set of mammograms and save them in a folder, which must exist."""
    _draw(partial(_save_mammograms, folder, recipe.seed, versions=recipe.drawn_versions), recipe.n, workers)


def write_embed_tables(
    folder: Path,
    patients: Sequence[str],
    groups: Sequence[int],
    markers: Mapping[str, Sequence[int]],
    density: Sequence[int],
    cancer: Sequence[int],
) -> None:
    """Write EMBED's tables, one of markers and one of findings, of images that are numbered.

    Args:
        folder: the folder of the set.
        patients: who each image is of.
        groups: what each image shows, whatever its attributes.
        markers: ``circle marker`` and ``triangle marker``, 0 or 1, of each image.
        density: 1 to 4.
        cancer: 0 or 1.
    """
    keys = {"image_path": [f"images/{name_png(i)}" for i in range(len(patients))], "empi_anon": patients}
    write_csv(folder / MARKERS, {**keys, GROUP: groups, **markers})
    write_csv(folder / FINDINGS, {**keys, "tissueden": density, "is_positive": cancer})


def _write_pendulum(folder: Path, recipe: Recipe, workers: int) -> None:
    """Write pendulums, with a table of their attributes and of their splits."""
    n, seed = recipe.n, recipe.seed
    _draw(partial(_save_pendulum, folder, seed), n, workers)
    drawn = {name: values.tolist() for name, values in pendulum.draw_attributes(seed, torch.arange(n)).items()}
    split = ["test" if i % TEST_EVERY == 4 else "valid" if i % VALID_EVERY == 0 else "train" for i in range(n)]
    write_csv(folder / ATTRIBUTES, {"image": [name_png(i) for i in range(n)], "split": split, **drawn})


def _draw(save: Callable[[range], int], n: int, workers: int) -> None:
    """Draw and save n images in worker processes, in parts that do not depend on their number."""
    parts = [range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    with (
        worker_pool(workers) as pool,
        tqdm(total=n, desc="drawing", unit="image") as bar,
    ):
        for count in pool.map(save, parts):
            bar.update(count)


def _save_faces(folder: Path, seed: int, part: range) -> int:
    """Draw and save some faces; return their number."""
    index = torch.tensor(part)
    images = faces.redraw(seed, index, faces.draw_attributes(seed, index))
    for i, image in zip(part, images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / _name_face(i), **faces.JPEG)
    return len(part)


def _save_mammograms(folder: Path, seed: int, part: range, versions: int = 1) -> int:
    """Draw and save some mammograms, several versions of each; return the number of images."""
    index = torch.tensor(part)
    images = mammograms.redraw(seed, index // versions, mammograms.draw_attributes(seed, index, versions))
    for i, image in zip(part, images):
        Image.fromarray(image).save(folder / name_png(i), compress_level=1)  # noise hardly compresses
    return len(part)


def _save_pendulum(folder: Path, seed: int, part: range) -> int:
    """Draw and save some pendulums; return their number."""
    images = pendulum.render(pendulum.draw_attributes(seed, torch.tensor(part)))
    for i, image in zip(part, images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / name_png(i))
    return len(part)


def _name_face(index: int) -> str:
    """Return the file name of a face."""
    return f"{index}.jpg"


def name_png(index: int) -> str:
    """Return the file name of a mammogram or a pendulum; the names sort by index."""
    return f"{index:06}.png"


def _write_lines(path: Path, lines: list[str]) -> None:
    """Write lines to a text file."""
    path.write_text("\n".join(lines) + "\n")
