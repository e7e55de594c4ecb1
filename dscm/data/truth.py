"""True counterfactual images, where a generator knows them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dscm.data import mammogram
from dscm.data.morphomnist import dataset as morphomnist
from dscm.data.images import resize_image
from dscm.data.phantoms import faces, mammograms
from dscm.data.phantoms.layouts import Recipe, read_recipe
from dscm.data.sets import Source
from dscm.causal.graph import Graph

TOUCHED = 0.1  # share of a pixel that a place must cover


@dataclass(frozen=True)
class Truth:
    """Draw the image that really follows when attributes are other than they were.

    Args:
        known: the interventions whose true image is known.
        draw: takes the data, as `sets.load` returns them, and the counterfactual attributes (N,), and returns
            images, uint8 (N, C, H, W).
        local: the interventions that change one known place in an image.
        place: takes the data and one of ``local``, and returns that place, bool (N, 1, H, W).
    """

    known: frozenset[str]
    draw: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
    local: frozenset[str] = frozenset()
    place: Callable[[Mapping[str, Tensor], str], Tensor] | None = None


def find_truth(graph: Graph, source: Source) -> Truth | None:
    """Return what draws true counterfactuals of a data set; None where nobody knows them, as of photographs.

    Args:
        graph: the causal graph.
        source: where the data lie: MNIST, or a folder that `dscm.data.phantoms` wrote.

    Raises:
        InputError: the folder's recipe is damaged.
    """
    if graph.measured:  # one hand's drawing is redrawn; how that hand writes another digit, no drawing says
        return Truth(frozenset(graph.measured), lambda data, attributes: morphomnist.redraw(data["base"], attributes))
    recipe = read_recipe(source.data_dir) if source.data_dir else None
    if recipe is None:
        return None
    if recipe.kind == "celebahq":
        names = frozenset(faces.CAUSES).intersection(variable.name for variable in graph.attributes)
        return Truth(names, _on_cpu(lambda data, attributes: _redraw_faces(recipe, data, attributes)))
    return Truth(
        frozenset(mammograms.SHARES),
        _on_cpu(lambda data, attributes: _redraw_mammograms(recipe, source, data, attributes)),
        frozenset(mammograms.MARKERS),
        _on_cpu(lambda data, name: _place_marker(recipe, source, data, name)),
    )


def _on_cpu(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let what draws on a CPU take a data set from any device, and answer there."""

    def wrapped(data: Mapping[str, Tensor], asked: Mapping[str, Tensor] | str) -> Tensor:
        held = {name: value.cpu() for name, value in data.items()}
        asked = asked if isinstance(asked, str) else {name: value.cpu() for name, value in asked.items()}
        return draw(held, asked).to(data["image"].device)

    return wrapped


def _redraw_faces(recipe: Recipe, data: Mapping[str, Tensor], attributes: Mapping[str, Tensor]) -> Tensor:
    """Redraw faces as a set's files hold them, at the size of the data; what nobody names stays as it was drawn."""
    size = data["image"].shape[-1]
    attributes = faces.draw_attributes(recipe.seed, data["index"]) | dict(attributes)
    images = faces.compress(faces.redraw(recipe.seed, data["index"], attributes))
    return torch.stack([resize_image(Image.fromarray(image.permute(1, 2, 0).numpy()), size) for image in images])


def _redraw_mammograms(
    recipe: Recipe, source: Source, data: Mapping[str, Tensor], attributes: Mapping[str, Tensor]
) -> Tensor:
    """Redraw mammograms and bring them to the form that models see."""
    size = data["image"].shape[-1]
    images = mammograms.redraw(recipe.seed, data["index"], attributes)
    return torch.stack([mammogram.prepare(mammogram.to_grey(image), size, source.framing) for image in images])


def _place_marker(recipe: Recipe, source: Source, data: Mapping[str, Tensor], name: str) -> Tensor:
    """Return the box of a marker in the images that models see, shown there or not."""
    size, index = data["image"].shape[-1], data["index"]
    drawn = mammograms.redraw(recipe.seed, index, mammograms.draw_attributes(recipe.seed, index))
    boxes = mammograms.marker_box(mammograms.draw_nuisance(recipe.seed, index), name)
    places = []
    for image, (top, left, bottom, right) in zip(drawn, boxes.tolist()):
        inside = np.zeros(image.shape)
        inside[top:bottom, left:right] = 1
        pixels = mammogram.to_grey(image)
        pixels = mammogram.clean(pixels) if source.framing.clean_background else pixels
        places.append(mammogram.lay(inside, pixels, size, source.framing) > TOUCHED)
    return torch.stack(places)
