"""Pendulums: the drawing, its measure, and the set in a folder."""

import pytest
import torch

from dscm.causal.shadow import shadow_length, shadow_position
from dscm.data.phantoms import pendulum
from dscm.data.phantoms.layouts import Recipe, write_set
from dscm.data.scaling import to_signed
from dscm.data.sets import DataSet, Source, get_data_set
from dscm.graphs import get_graph
from dscm.oracle import find_faults, observe

SEED, N = 3, 40
TOLERANCE = {"pendulum": 0.1, "light": 0.1, "shadow_length": 0.15, "shadow_position": 0.06}  # degrees, units


def draw(n: int = 60) -> dict[str, torch.Tensor]:
    return pendulum.draw_attributes(SEED, torch.arange(n))


def break_equations(attributes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give each picture the shadow of others."""
    length, position = attributes["shadow_length"].roll(1), attributes["shadow_position"].roll(7)
    return attributes | {"shadow_length": length, "shadow_position": position}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """A set of `N` pendulums in a folder."""
    folder = tmp_path_factory.mktemp("pendulum")
    write_set(folder, Recipe("pendulum", N, SEED))
    return get_data_set(get_graph("pendulum"), Source(folder, tmp_path_factory.mktemp("cache")))


def test_angles_fill_the_published_ranges_and_shadows_obey_the_equations() -> None:
    found = draw(400)
    for name, (low, high) in {"pendulum": (-36.0, 38.7), "light": (54.0, 132.3)}.items():
        assert low <= found[name].min() < low + 2 and high - 2 < found[name].max() <= high
        assert abs(found[name].mean() - (low + high) / 2) < 4
    u, v = found["pendulum"].double(), found["light"].double()
    torch.testing.assert_close(found["shadow_length"], shadow_length(u, v).float())
    torch.testing.assert_close(found["shadow_position"], shadow_position(u, v).float())


def test_published_places_and_colours() -> None:
    """In the published 96 pixels a unit is 3.72 by 3.36 of them, and the origin lies at (12, 82.08)."""
    attributes = {"pendulum": 0.0, "light": 90.0, "shadow_length": 4.0, "shadow_position": 10.0}
    image = pendulum.render({name: torch.tensor([value]) for name, value in attributes.items()})[0]
    across = 49  # of x = 10, the pivot's
    heights = {"ball": 1.4, "top": 3.6, "rod": 4.6, "pivot": 10.4, "light": 18.0, "shadow": -0.5, "sky": 13.0}
    seen = {name: tuple(image[:, int(82.08 - 3.36 * y), across].tolist()) for name, y in heights.items()}
    assert seen == {
        "ball": (178, 34, 34),
        "top": (178, 34, 34),
        "rod": (0, 0, 0),
        "pivot": (0, 0, 0),
        "light": (255, 165, 0),
        "shadow": (0, 0, 0),
        "sky": (255, 255, 255),
    }
    assert (image[:, :11] == 255).all()  # the upper half of the light is cut


@pytest.mark.parametrize("size", [96, 64])
@pytest.mark.parametrize("obedient", [True, False])
def test_pictures_are_measured_as_they_were_drawn(size: int, obedient: bool) -> None:
    """Shadows that the equations do not allow are, too."""
    attributes = draw() if obedient else break_equations(draw())
    for name, values in pendulum.measure(pendulum.render(attributes, size)).items():
        assert (values - attributes[name]).abs().max() < TOLERANCE[name], name


def test_the_measure_bears_noise() -> None:
    """Grey levels that a network leaves on white and black; each attribute is measured by itself."""
    attributes, noise = draw(), torch.Generator().manual_seed(0)
    clean = pendulum.render(attributes, 64).float()
    image = (clean + 8 * torch.randn(clean.shape, generator=noise)).clamp(0, 255).round().to(torch.uint8)
    for name in pendulum.NAMES:
        (values,) = pendulum.measure(image, [name]).values()
        assert (values - attributes[name]).abs().mean() < 2 * TOLERANCE[name], name


def test_a_picture_depends_on_its_own_attributes_alone() -> None:
    attributes = draw(pendulum.BATCH + 2)
    last = {name: values[-1:] for name, values in attributes.items()}
    assert torch.equal(pendulum.render(attributes)[-1:], pendulum.render(last))
    assert all(torch.equal(pendulum.draw_attributes(SEED, torch.tensor([65]))[name], last[name]) for name in last)


def test_the_set_is_split_and_holds_the_truth(drawn: DataSet) -> None:
    """A fifth is for testing, a tenth for validation; the truth of the factual attributes is the image to the byte."""
    splits = {name: drawn.load(name, 64) for name in ("train", "valid", "test")}
    assert {name: len(data["image"]) for name, data in splits.items()} == {"train": 28, "valid": 4, "test": 8}
    assert sorted(sum((data["index"].tolist() for data in splits.values()), [])) == list(range(N))
    data, truth = splits["test"], drawn.truth()
    assert all(torch.equal(data[name], draw(N)[name][data["index"]]) for name in pendulum.NAMES)
    assert torch.equal(truth.draw(data, data), data["image"])
    assert truth.known == set(pendulum.NAMES)


def test_the_truth_of_an_intervention_on_the_shadow_changes_the_shadow_alone(drawn: DataSet) -> None:
    data, truth = drawn.load("test", 96), drawn.truth()
    image = truth.draw(data, {"shadow_length": data["shadow_length"] + 2.0})
    changed = (image != data["image"]).any(dim=1)
    assert changed.flatten(1).any(dim=1).all() and not changed[:, :80].any()


def test_the_graphs_counterfactual_is_the_truth(drawn: DataSet) -> None:
    """The model's equations say of the attributes what the data's do, and what is measured composes exactly."""
    data = drawn.load("test", 64)
    scm = drawn.graph.scm()
    obs = observe(to_signed(data["image"]), drawn.graph, None)
    assert not find_faults(drawn.graph, obs | {"image": to_signed(data["image"])})
    noise = scm.abduct(obs)
    assert all(torch.allclose(value, obs[name], atol=1e-5) for name, value in scm.predict(noise).items())
    assert noise["shadow_length"].abs().max() < 0.3 and noise["shadow_position"].abs().max() < 0.3
    facts = {name: data[name] for name in pendulum.NAMES}
    changed = scm.counterfactual(facts, {"light": 120.0})
    u, v = facts["pendulum"], torch.full_like(facts["light"], 120.0)
    assert torch.allclose(changed["shadow_length"], shadow_length(u, v), atol=1e-4)
    assert torch.allclose(changed["shadow_position"], shadow_position(u, v), atol=1e-4)
    assert torch.equal(scm.counterfactual(facts, {"shadow_length": 5.0})["shadow_position"], facts["shadow_position"])
