"""Sets of mammograms in EMBED's layout, drawn or real, whose markers were drawn and can be drawn otherwise."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dscm.data.images import read_pixels
from dscm.data.mammogram import to_grey
from dscm.data.phantoms import mammograms, tissue
from dscm.data.phantoms.layouts import RECIPE, Recipe, name_png, write_embed_tables, write_mammograms
from dscm.data.phantoms.tissue_labels import Mammogram
from dscm.errors import InputError, UnreadableImage
from dscm.machine import worker_pool

UNMARKED = "unmarked"  # folder of the real mammograms without markers
TALLEST = 1024  # rows; taller mammograms are shrunk to it, since models see far fewer


def write_marked(folder: Path, recipe: Recipe, source: Path, real: Sequence[Mammogram], workers: int = 1) -> None:
    """Write drawings, and versions of real mammograms with markers drawn onto them, as one set in EMBED's layout.

    Images are numbered: drawings first, then all versions of each mammogram, whose unmarked form lies in `UNMARKED`.
    Those of one mammogram with markers at the same places are a group, of which each image is a true counterfactual of
    the others.

    Args:
        folder: an empty folder.
        recipe: the recipe of the set.
        source: the folder of the real mammograms.
        real: these, as many as the recipe says.
        workers: number of processes; the files do not depend on it.

    Raises:
        InputError: a mammogram cannot be read, or no breast is found in it.
    """
    (folder / "images").mkdir()
    (folder / UNMARKED).mkdir()
    write_mammograms(folder / "images", recipe, workers)
    save = partial(_save_versions, folder, recipe)
    paths = [source / mammogram.image for mammogram in real]
    with worker_pool(workers) as pool, tqdm(total=len(real), desc="marking", unit="image") as bar:
        for path, fault in zip(paths, pool.map(save, range(len(paths)), paths)):
            if fault:
                raise InputError(f"{path}: {fault}")
            bar.update()
    start = torch.arange(recipe.n)
    drawn = mammograms.draw_attributes(recipe.seed, start, recipe.drawn_versions)
    index = recipe.n + torch.arange(recipe.versions * recipe.real)
    first = find_first(recipe, index)
    marked = mammograms.draw_markers(recipe.seed, first, index)
    each = [mammogram for mammogram in real for _ in range(recipe.versions)]
    markers = {name: [*drawn[name].tolist(), *marked[name].tolist()] for name in mammograms.MARKERS}
    density = [*(1 + drawn["density"]).tolist(), *(mammogram.density for mammogram in each)]
    cancer = [*drawn["cancer"].tolist(), *(mammogram.cancer for mammogram in each)]
    base = start // recipe.drawn_versions
    women = [*mammograms.number_patients(base), *(mammogram.woman for mammogram in each)]
    write_embed_tables(folder, women, [*base.tolist(), *first.tolist()], markers, density, cancer)
    (folder / RECIPE).write_text(json.dumps(asdict(recipe)) + "\n")


def find_first(recipe: Recipe, index: Tensor) -> Tensor:
    """Return the first version of a real mammogram that has its markers where each of these images has them.

    Args:
        recipe: the recipe of the set.
        index: indices of versions of real mammograms, int64 (N,).

    Returns:
        Their indices, int64 (N,).
    """
    return index - (index - recipe.n) % recipe.versions % recipe.grouped


def redraw(folder: Path, recipe: Recipe, index: Tensor, attributes: Mapping[str, Tensor]) -> list[np.ndarray]:
    """Draw images of a set under other attributes, of which real mammograms can have other markers alone.

    Args:
        folder: the folder of the set.
        recipe: its recipe.
        index: indices of the images, int64 (N,).
        attributes: of drawings every name in `mammograms.SHARES`, of real mammograms the markers; each (N,).

    Returns:
        Unsigned integers (H, W), N of them.
    """
    drawn = (index < recipe.n).nonzero()[:, 0]
    images: dict[int, np.ndarray] = {}
    if len(drawn):
        some = {name: value[drawn] for name, value in attributes.items()}
        images |= zip(drawn.tolist(), mammograms.redraw(recipe.seed, index[drawn] // recipe.drawn_versions, some))
    read = cache(partial(_read_unmarked, folder))
    for j in (index >= recipe.n).nonzero()[:, 0].tolist():
        pixels, breast = read((int(index[j]) - recipe.n) // recipe.versions)
        markers = tissue.place_markers(breast, recipe.seed, int(find_first(recipe, index[j])))
        present = {name: int(attributes[name][j]) for name in mammograms.MARKERS}
        images[j] = tissue.paint(pixels, breast, markers, present)
    return [images[j] for j in range(len(index))]


def find_boxes(folder: Path, recipe: Recipe, index: Tensor, name: str) -> Tensor:
    """Return the bounding box of a marker in images of a set, whether or not it is present, as `markers.marker_box`.

    Args:
        folder, recipe, index: as in `redraw`.
        name: ``circle marker`` or ``triangle marker``.
    """
    boxes, read = [], cache(partial(_read_unmarked, folder))
    for i in index.tolist():
        if i < recipe.n:
            nuisance = mammograms.draw_nuisance(recipe.seed, torch.tensor([i // recipe.drawn_versions]))
            boxes.append(mammograms.marker_box(nuisance, name)[0])
            continue
        pixels, breast = read((i - recipe.n) // recipe.versions)
        markers = tissue.place_markers(breast, recipe.seed, int(find_first(recipe, torch.tensor(i))))
        boxes.append(tissue.find_box(pixels, breast, markers, name))
    return torch.stack(boxes)


def _save_versions(folder: Path, recipe: Recipe, number: int, path: Path) -> str:
    """Save a mammogram without markers and in all its versions; return what is wrong with it, or nothing."""
    try:
        pixels = tissue.cut_margin(_shorten(_to_levels(read_pixels(path))))
        breast = tissue.find_breast(pixels)
    except UnreadableImage as error:
        return str(error)
    Image.fromarray(np.ascontiguousarray(pixels)).save(folder / UNMARKED / name_png(number))
    index = recipe.n + number * recipe.versions + torch.arange(recipe.versions)
    first = find_first(recipe, index)
    drawn = mammograms.draw_markers(recipe.seed, first, index)
    for version, (i, place) in enumerate(zip(index.tolist(), first.tolist())):
        markers = tissue.place_markers(breast, recipe.seed, place)
        present = {name: int(drawn[name][version]) for name in mammograms.MARKERS}
        image = tissue.paint(pixels, breast, markers, present)
        Image.fromarray(np.ascontiguousarray(image)).save(folder / "images" / name_png(i))
    return ""


def _read_unmarked(folder: Path, number: int) -> tuple[np.ndarray, tissue.Breast]:
    """Read a real mammogram without markers, and find its breast."""
    path = folder / UNMARKED / name_png(number)
    try:
        pixels = read_pixels(path)
        return pixels, tissue.find_breast(pixels)
    except UnreadableImage as error:
        raise InputError(f"{path}: {error}") from error


def _to_levels(pixels: np.ndarray) -> np.ndarray:
    """Return grey levels (H, W) of the depth of an image, which may have colours."""
    return pixels if pixels.ndim == 2 else (to_grey(pixels) * np.iinfo(pixels.dtype).max).round().astype(pixels.dtype)


def _shorten(pixels: np.ndarray) -> np.ndarray:
    """Shrink a mammogram that is taller than `TALLEST`, antialiased."""
    height, width = pixels.shape
    if height <= TALLEST:
        return pixels
    size = max(round(width * TALLEST / height), 1), TALLEST
    small = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize(size, Image.Resampling.BOX))
    return small.round().astype(pixels.dtype)
