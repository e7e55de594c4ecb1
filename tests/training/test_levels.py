"""The steps that a training places at its end."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.levels import fit_levels
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.errors import InputError
from dscm.training.levels import place_steps
from dscm.training.recipe import Recipe
from tests.support.image_mechanisms import make, observe


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fine path be short."""
    monkeypatch.setattr("dscm.diffusion.levels.CANDIDATES", 6)


def draw(n: int) -> dict[str, Tensor]:
    """Draw n images of noise, and parents."""
    image = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return {**observe(n), "image": image}


def test_a_mechanism_visits_the_levels_that_fit_it() -> None:
    """The checkpoint says so, and nothing else of the model changes."""
    model, data = make("spatial").float().using(steps=None, solver=None), draw(16)
    assert isinstance(model, DiffusionMechanism)
    placed, entry = place_steps(Recipe(mechanism="spatial", levels=3), model, data)
    levels = fit_levels(model, data, 3)
    assert entry == {"sampling": {"levels": levels}} and len(levels) == 4
    assert isinstance(placed, DiffusionMechanism) and placed.sampling.count == 3
    assert placed.using(levels=None).sampling == model.sampling


def test_nothing_is_fitted_without_levels_images_or_a_path() -> None:
    """No levels are asked for, there are too few images or none, or the mechanism has no noise levels."""
    spatial, vae = make("spatial"), make("vae")
    recipe = Recipe(mechanism="spatial")
    for chosen, model, data in (
        (Recipe(mechanism="spatial", levels=0), spatial, draw(16)),
        (recipe, spatial, draw(15)),
        (recipe, spatial, {}),
        (Recipe(mechanism="vae"), vae, draw(16)),
        (Recipe(part="oracle"), torch.nn.Linear(1, 1), draw(16)),
    ):
        assert place_steps(chosen, model, data) == (model, {})
    with pytest.raises(InputError, match="levels 3: not known to vae; a setting of spatial, semantic"):
        Recipe(mechanism="vae", levels=3)


def test_a_null_token_that_was_never_trained_guides_nothing() -> None:
    """Whatever it holds, the levels are those of conditional prediction; a restored mechanism knows it by itself."""
    model, data = make("spatial").float(), draw(16)
    assert isinstance(model, DiffusionMechanism)
    expected = fit_levels(model.using(guidance=1.0), data, 3)
    model.null.data.fill_(torch.nan)
    _, entry = place_steps(Recipe(mechanism="spatial", levels=3, p_null=0.0), model, data)
    assert entry == {"sampling": {"levels": expected}}
    model.null_trained = False
    assert fit_levels(model, data, 3) == expected
