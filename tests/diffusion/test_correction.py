"""Answers that are corrected by what is measured on them."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from dscm.causal.encoding import ParentScaling
from dscm.diffusion.correction import REACH, correct
from dscm.errors import InputError
from dscm.graphs import get_graph
from tests.support.networks import PARENTS, X, make

VARIABLES = [v for v in get_graph("morphomnist").attributes if v.name in ("thickness", "slant")]
SLANT = torch.tensor([0.1, 0.0, -0.2], dtype=torch.float64)
PA = {"thickness": torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64), "slant": SLANT}
SET = {"thickness": torch.tensor([True, True, False])}


@pytest.fixture
def scaling() -> ParentScaling:
    """Standard deviations of about 0.8 px and 0.2 rad."""
    result = ParentScaling(VARIABLES).double()
    result.fit({"thickness": PA["thickness"], "slant": SLANT})
    return result


def draw(parents: Mapping[str, Tensor]) -> Tensor:
    """Draw images whose first pixel is 0.95 of the thickness and 0.05, and whose second one is the slant."""
    return torch.stack([0.95 * parents["thickness"] + 0.05, parents["slant"]], dim=1)[:, None, None]


def read(image: Tensor) -> dict[str, Tensor]:
    """Read what `draw` drew."""
    return {"thickness": image[:, 0, 0, 0], "slant": image[:, 0, 0, 1]}


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_linear_miss_shrinks_by_its_factor_each_round(scaling: ParentScaling, rounds: int) -> None:
    """Of f(c) = 0.95·c + 0.05 a round leaves a twentieth of what was missed; an image that nothing changes stays."""
    got = read(correct(draw, read, PA, SET, rounds, scaling))
    missed = 0.05 - 0.05 * PA["thickness"]
    expected = PA["thickness"] + torch.where(SET["thickness"], missed * 0.05**rounds, missed)
    torch.testing.assert_close(got["thickness"], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(got["slant"], SLANT, rtol=0, atol=1e-12)


def test_what_is_told_stays_near_what_is_asked(scaling: ParentScaling) -> None:
    """A network that does not listen is told no more than `REACH`, however often."""
    told: list[Tensor] = []

    def deaf(parents: Mapping[str, Tensor]) -> Tensor:
        told.append(parents["thickness"])
        return draw({**PA, "thickness": PA["thickness"] - 1})

    correct(deaf, read, PA, SET, 9, scaling)
    moved = torch.stack(told) - PA["thickness"]
    assert len(told) == 10
    torch.testing.assert_close(moved.max(), REACH * scaling.spread("thickness"), rtol=0, atol=1e-12)


def test_a_round_that_misses_more_is_not_taken(scaling: ParentScaling) -> None:
    """Of a network that overshoots each image keeps its first, and best, round."""

    def overshoot(parents: Mapping[str, Tensor]) -> Tensor:
        error = parents["thickness"] - PA["thickness"]
        return draw({**PA, "thickness": PA["thickness"] + torch.where(error == 0, 0.01, -5.0)})

    assert torch.equal(correct(overshoot, read, PA, SET, 3, scaling), overshoot(PA))


def test_images_are_corrected_one_by_one(scaling: ParentScaling) -> None:
    """Alone or in a batch, an image is the same."""
    together = correct(draw, read, PA, SET, 2, scaling)
    for i in range(3):
        one = {name: value[i : i + 1] for name, value in PA.items()}
        alone = correct(draw, read, one, {"thickness": SET["thickness"][i]}, 2, scaling)
        assert torch.equal(alone, together[i : i + 1])


@torch.no_grad()
def test_a_mechanism_is_corrected_where_it_is_intervened_on() -> None:
    """It needs something to read; the composition stays, and of a counterfactual what is missed is told in addition."""
    model = make().using(guidance=1.0, steps=4)
    with pytest.raises(InputError, match="needs parents of the image that are measured"):
        model.using(corrections=1)
    name = next(v.name for v in model.scaling.variables if v.real)
    model.read = lambda image: {name: PARENTS[name] - 0.05 * model.scaling.spread(name)}
    corrected, noise = model.using(corrections=1), model.abduct(X, PARENTS)
    told = {**PARENTS, name: PARENTS[name] + 0.05 * model.scaling.spread(name)}
    plain, moved = model.predict(noise, PARENTS), model.predict(noise, told)
    assert torch.equal(corrected.predict(noise, PARENTS), plain)
    model.read = lambda image: {name: PARENTS[name] - 0.05 * model.scaling.spread(name) * (image == plain).all()}
    torch.testing.assert_close(
        model.using(corrections=1).predict(noise, PARENTS, {name: torch.tensor(True)}), moved, rtol=0, atol=1e-9
    )
