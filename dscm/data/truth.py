"""True counterfactual images, where a generator knows them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from dscm.data import embed, morphomnist
from dscm.data.folder import resize_image
from dscm.data.phantoms import faces, mammograms
from dscm.data.phantoms.layouts import Recipe, read_recipe
from dscm.data.sets import Source
from dscm.graphs import Graph


@dataclass(frozen=True)
class Truth:
    """Draw the image that really follows when attributes are other than they were.

    Args:
        known: the interventions whose true image is known.
        draw: takes the data, as `sets.load` returns them, and the counterfactual attributes (N,), and returns
            images, uint8 (N, C, H, W).
    """

    known: frozenset[str]
    draw: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


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
    names = frozenset(variable.name for variable in graph.attributes)
    if recipe.kind == "celebahq":
        return Truth(names, lambda data, attributes: _redraw_faces(recipe, data, attributes))
    return Truth(names, lambda data, attributes: _redraw_mammograms(recipe, source, data, attributes))


def _redraw_faces(recipe: Recipe, data: Mapping[str, Tensor], attributes: Mapping[str, Tensor]) -> Tensor:
    """Redraw faces as a set's files hold them, at the size of the data."""
    size = data["image"].shape[-1]
    images = faces.compress(faces.redraw(recipe.seed, data["index"], attributes))
    return torch.stack([resize_image(Image.fromarray(image.permute(1, 2, 0).numpy()), size) for image in images])


def _redraw_mammograms(
    recipe: Recipe, source: Source, data: Mapping[str, Tensor], attributes: Mapping[str, Tensor]
) -> Tensor:
    """Redraw mammograms and bring them to the form that models see."""
    size = data["image"].shape[-1]
    images = mammograms.redraw(recipe.seed, data["index"], attributes)
    return torch.stack([embed.prepare(x / 65535, size, source.keep_aspect, source.clean_background) for x in images])
