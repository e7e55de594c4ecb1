"""The steps of a diffusion mechanism, placed at the end of its training."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dscm.diffusion.levels import IMAGES, fit_levels
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.training.recipe import Recipe


def place_steps(recipe: Recipe, model: nn.Module, data: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    """Fit the noise levels that a mechanism visits to images for validation, of which there must be enough.

    Args:
        recipe: says how many steps, if any.
        model: what was trained.
        data: its images for validation, uint8 (N, C, H, W), and attributes, each (N,); empty where there are none.

    Returns:
        The model, that visits those levels where it is a diffusion mechanism; and the entry of a checkpoint that says
        so, if it does.
    """
    if not isinstance(model, DiffusionMechanism) or not recipe.levels or len(data.get("image", ())) < IMAGES:
        return model, {}
    guided = model if recipe.p_null else model.using(guidance=1.0)  # there is no null token to guide from
    sampling = {"levels": fit_levels(guided, data, recipe.levels)}
    return model.using(**sampling), {"sampling": sampling}
