"""Metrics of images and attributes whose values are known by hand."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from dscm.causal.mechanisms import Intervened, Mechanism, Parents
from dscm.causal.scm import SCM
from dscm.data.scaling import l1
from dscm.evaluation import metrics
from dscm.evaluation.particles import Subject
from dscm.evaluation.statistics import CHANGED, summarise
from dscm.graphs import get_graph


class Painter(Mechanism[Tensor]):
    """Paint the digit as a grey level, with a shift wherever guidance emphasises the digit."""

    event_dims = 3

    def abduct(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        return value - parents["digit"][:, None, None, None] / 20

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        shift = 0.1 * intervened.get("digit", torch.tensor(False)).double().reshape(-1, 1, 1, 1)
        return noise + parents["digit"][:, None, None, None] / 20 + shift


@pytest.fixture
def scm() -> SCM:
    return get_graph("morphomnist-digit").scm(Painter())


@pytest.fixture
def obs() -> dict[str, Tensor]:
    """Two grey digits; their level lies between two of the 256."""
    return {"digit": torch.tensor([1, 2]), "image": torch.full((2, 1, 4, 4), 0.1, dtype=torch.float64)}


def test_composition_is_guided_in_every_image_as_the_counterfactual_is(scm: SCM, obs: Mapping[str, Tensor]) -> None:
    """The shift is .1 on [-1, 1], so .05 on [0, 1], and it adds up over the cycles."""
    null = {"digit": obs["digit"]}

    def compose(obs: Mapping[str, Tensor]) -> Tensor:
        return Subject(scm).ask(obs, {"": (null, None)}).answers[""]["image"]

    chain = [l1(x, obs["image"]).tolist() for x in metrics.compositions(compose, obs, compose(obs), 3)]
    assert torch.allclose(torch.tensor(chain), torch.tensor([[0.05], [0.1], [0.15]]))


def test_saved_images_are_rounded_between_two_queries(scm: SCM, obs: Mapping[str, Tensor]) -> None:
    saved = metrics.to_8_bits(obs["image"])
    assert (saved != obs["image"]).all() and l1(saved, obs["image"]).max() <= 0.5 / 255
    assert torch.equal(metrics.to_8_bits(saved), saved)
    assert metrics.to_8_bits(torch.tensor([[[[-1.2, 1.7]]]])).tolist() == [[[[-1.0, 1.0]]]]
    do = {"digit": torch.tensor([9, 2])}  # the second does not change, so it is not guided
    first = scm.counterfactual(obs, do)
    for save in (metrics.keep, metrics.to_8_bits):
        *_, last = metrics.reversals(scm.counterfactual, obs, first, do, 2, save=save)
        error = l1(last, obs["image"])
        assert error[0] == pytest.approx(0.2, abs=0.005)  # guided there and back, twice
        assert (error[1] == 0) == (save is metrics.keep) and error[1] <= 1.5 / 255


def test_errors_of_changed_images_alone() -> None:
    variable = get_graph("morphomnist").variable("thickness")
    errors = metrics.attribute_errors(variable, torch.tensor([2.0, 5.0, 1.0]), torch.tensor([1.0, 4.0, 1.0]))
    assert errors["mae"].tolist() == [1, 1, 0] and errors["mape"].tolist() == [1, 0.25, 0]
    changed = torch.tensor([False, True, True])
    assert summarise(CHANGED + "mape", metrics._over(errors["mape"], changed)).item() == 0.125


def test_everyone_wearing_glasses_is_half_right() -> None:
    """A fifth of the faces wear them; F1 of the flipped attribute is .89, but no glasses were taken off."""
    before = (torch.arange(100) < 20).long()
    got = torch.ones(100, dtype=torch.long)
    errors = metrics.attribute_errors(get_graph("celebahq").variable("Smiling"), got, 1 - before)
    assert summarise("f1", errors["f1"]).item() == pytest.approx(160 / 180)
    shares = {name: summarise(name, x).item() for name, x in metrics._switches(got, before, 1 - before).items()}
    assert shares == {"added": 1.0, "removed": 0.0, "balanced": 0.5}


def test_a_class_is_kept_where_its_reading_stays_even_if_it_was_wrong() -> None:
    """Only images count whose class should stay; of the three here one reading changes."""
    graph = get_graph("morphomnist")
    obs, values = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5])
    before, observed = torch.tensor([1, 7, 3, 4]), torch.tensor([1, 7, 8, 5])
    found = metrics.kept(graph, {"digit": observed}, {"digit": before}, {"digit": values}, {"digit": obs})
    assert [*found] == ["digit"] and summarise("kept", found["digit"]).item() == pytest.approx(2 / 3)
