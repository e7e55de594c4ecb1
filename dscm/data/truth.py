"""True counterfactual images, where the generator of a data set is known."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dscm.data import mammogram
from dscm.data.framing import Framing
from dscm.data.images import resize_image
from dscm.data.morphomnist import dataset as morphomnist
from dscm.data.phantoms import faces, mammograms, marked, pendulum
from dscm.data.phantoms.layouts import Recipe

MIN_COVER = 0.1  # fraction of a pixel that a region covers at least

Data = Mapping[str, Tensor]


@dataclass(frozen=True)
class Truth:
    """Draw the true image under other attributes.

    Args:
        known: the variables whose interventions have a known true image.
        draw: maps the data, as `DataSet.load` returns them, and the counterfactual attributes, each (N,), to the true
            images, uint8 (N, C, H, W).
        local: the variables whose interventions change one known region of an image.
        place: maps the data and the name of a variable in ``local`` to that region, bool (N, 1, H, W).
    """

    known: frozenset[str]
    draw: Callable[[Data, Data], Tensor]
    local: frozenset[str] = frozenset()
    place: Callable[[Data, str], Tensor] | None = None


def digit_truth(measured: Collection[str]) -> Truth:
    """Draw true digits under interventions on their measured attributes.

    Another digit has no known true image: a drawing does not tell how its writer draws the other digits.

    Args:
        measured: the attributes that morphometry measures.
    """
    return Truth(frozenset(measured), lambda data, attributes: morphomnist.redraw(data["base"], attributes))


def face_truth(recipe: Recipe, names: Collection[str]) -> Truth:
    """Draw true synthetic faces.

    Args:
        recipe: the recipe of the data set.
        names: the attributes of the causal graph; those that the recipe does not know have no known true image.
    """
    return Truth(frozenset(faces.CAUSES).intersection(names), partial(_redraw_faces, recipe))


def mammogram_truth(folder: Path, recipe: Recipe, framing: Framing) -> Truth:
    """Draw true synthetic mammograms, and locate their markers; of real ones with drawn markers these alone are known.

    Args:
        folder: the folder of the data set.
        recipe: its recipe.
        framing: how mammograms become squares.
    """
    return Truth(
        frozenset(mammograms.MARKERS if recipe.real else mammograms.SHARES),
        partial(_redraw_mammograms, folder, recipe, framing),
        frozenset(mammograms.MARKERS),
        partial(_locate_marker, folder, recipe, framing),
    )


def pendulum_truth() -> Truth:
    """Draw true pendulums, also under interventions on the shadow: it is drawn as it is told, whatever casts it."""
    return Truth(frozenset(pendulum.NAMES), _redraw_pendulums)


def _redraw_pendulums(data: Data, attributes: Data) -> Tensor:
    """Redraw pendulums at the size of the data as their files hold them; attributes not given keep their values."""
    images = pendulum.render(_to_cpu({name: {**data, **attributes}[name] for name in pendulum.NAMES}))
    size = data["image"].shape[-1]
    squares = [resize_image(Image.fromarray(image.permute(1, 2, 0).numpy()), size) for image in images]
    return torch.stack(squares).to(data["image"].device)


def _redraw_faces(recipe: Recipe, data: Data, attributes: Data) -> Tensor:
    """Redraw faces at the size of the data as their files hold them; attributes not given keep their values."""
    size, index = data["image"].shape[-1], data["index"].cpu()
    attributes = faces.draw_attributes(recipe.seed, index) | _to_cpu(attributes)
    images = faces.compress(faces.redraw(recipe.seed, index, attributes))
    squares = [resize_image(Image.fromarray(image.permute(1, 2, 0).numpy()), size) for image in images]
    return torch.stack(squares).to(data["image"].device)


def _redraw_mammograms(folder: Path, recipe: Recipe, framing: Framing, data: Data, attributes: Data) -> Tensor:
    """Redraw mammograms and transform them to the squares that models see."""
    size = data["image"].shape[-1]
    images = marked.redraw(folder, recipe, data["index"].cpu(), _to_cpu(attributes))
    squares = [mammogram.prepare(mammogram.to_grey(image), size, framing) for image in images]
    return torch.stack(squares).to(data["image"].device)


def _locate_marker(folder: Path, recipe: Recipe, framing: Framing, data: Data, name: str) -> Tensor:
    """Return the box of a marker in the squares that models see, whether or not the marker is present."""
    size, index = data["image"].shape[-1], data["index"].cpu()
    drawn = marked.redraw(folder, recipe, index, mammograms.draw_attributes(recipe.seed, index))
    boxes = marked.find_boxes(folder, recipe, index, name)
    regions = []
    for image, (top, left, bottom, right) in zip(drawn, boxes.tolist()):
        inside = np.zeros(image.shape)
        inside[top:bottom, left:right] = 1
        pixels = mammogram.clean(mammogram.to_grey(image), framing)
        regions.append(mammogram.transform(inside, pixels, size, framing) > MIN_COVER)
    return torch.stack(regions).to(data["image"].device)


def _to_cpu(attributes: Data) -> dict[str, Tensor]:
    """Move attributes to the CPU, where synthetic images are drawn."""
    return {name: value.cpu() for name, value in attributes.items()}
