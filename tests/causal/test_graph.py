"""The built-in graphs, and the messages for a wrong intervention."""

import math

import pytest
import torch

from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.causal.mechanisms import LinearGaussian
from dscm.errors import InputError
from dscm.graphs import GRAPHS, get_graph

each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "name, edges, channels",
    [
        ("morphomnist", {"thickness": "", "intensity": "thickness", "digit": "", "slant": "digit"}, 1),
        ("colour-morphomnist", {"thickness": "", "digit": "", "slant": "digit", "hue": "digit"}, 3),
        ("morphomnist-digit", {"digit": ""}, 1),
        ("morphomnist-intensity", {"thickness": "", "intensity": "thickness"}, 1),
        (
            "celebahq",
            {"Smiling": "", "Mouth_Slightly_Open": "Smiling"}
            | dict.fromkeys(("Eyeglasses", "Male", "Wearing_Lipstick", "Bald", "Wearing_Hat"), ""),
            3,
        ),
        ("embed", dict.fromkeys(("circle marker", "triangle marker", "cancer", "density"), ""), 1),
    ],
)
def test_edges(name: str, edges: dict[str, str], channels: int) -> None:
    graph = get_graph(name)
    assert {variable.name: " ".join(variable.parents) for variable in graph.attributes} == edges
    assert graph.image_parents == tuple(edges)
    assert graph.image_channels == channels


@each_graph
def test_mechanisms_read_the_declared_parents(graph: Graph) -> None:
    for variable in set(graph.attributes) - set(graph.learned):
        mechanism = variable.mechanism()
        assert set(variable.parents) == set(getattr(mechanism, "weights", getattr(mechanism, "parents", {})))


@each_graph
def test_samples_compose_and_lie_in_the_domain(graph: Graph) -> None:
    scm = graph.scm(learned=LearnedAttributes(graph.attributes))
    sample = scm.sample(2_000, seeded())
    assert set(sample) == {variable.name for variable in graph.attributes}
    again = scm.counterfactual(sample, {})
    for variable in graph.attributes:
        torch.testing.assert_close(again[variable.name], sample[variable.name], atol=1e-4, rtol=0)
        assert variable.inside(sample[variable.name]).all()


@each_graph
def test_digit_and_density_have_classes(graph: Graph) -> None:
    classes = {"digit": 10, "density": 4}
    assert all(variable.classes == classes.get(variable.name, 0) for variable in graph.variables)


@each_graph
def test_measured_attributes_are_known_and_the_others_are_classes(graph: Graph) -> None:
    """An oracle predicts classes only, so whatever is continuous has to be measured."""
    assert set(graph.measured) <= {variable.name for variable in graph.attributes}
    assert all(variable.discrete for variable in graph.predicted)
    assert set(graph.interventions) <= set(graph.image_parents)


def test_a_learned_mechanism_has_to_be_given() -> None:
    with pytest.raises(InputError, match="the mechanism of Mouth_Slightly_Open is learned"):
        get_graph("celebahq").scm()


def test_equations_of_morphomnist_by_hand() -> None:
    scm = get_graph("morphomnist").scm()
    eps = torch.tensor([1.0]).double()
    noise = scm.abduct(scm.sample(1, seeded()))
    noise |= {"slant": eps, "intensity": noise["intensity"]._replace(eps=eps, offset=0 * eps)}
    values = scm.predict(noise, {"thickness": 2.0, "digit": 4})
    assert values["slant"].item() == pytest.approx(math.radians(-27 + 24 + 3))
    assert values["intensity"].item() == pytest.approx(64 + 191 / (1 + math.exp(-(0.5 + 4 - 5))))


def test_hue_follows_the_digit() -> None:
    obs = {"thickness": [2.0], "digit": [3], "slant": [0.1], "hue": [0.37]}
    scm = get_graph("colour-morphomnist").scm()
    values = scm.counterfactual({name: torch.tensor(value) for name, value in obs.items()}, {"digit": 5})
    assert values["hue"].item() == pytest.approx(0.57)
    assert values["slant"].item() == pytest.approx(0.1 + math.radians(12))


def test_the_image_joins_the_model() -> None:
    image = LinearGaussian({"digit": 1.0}, bias=0.0, scale=1.0)
    scm = get_graph("morphomnist-digit").scm(image)
    assert scm.order == ("digit", "image") and scm.parents["image"] == ("digit",)
    assert scm.mechanisms["image"] is image


def test_models_do_not_share_mechanisms() -> None:
    graph = get_graph("morphomnist")
    assert graph.scm().mechanisms["slant"] is not graph.scm().mechanisms["slant"]


@pytest.mark.parametrize(
    "do",
    [{}, {"thickness": 0.5}, {"thickness": 10, "intensity": 0}, {"intensity": 255}, {"digit": 9.0}, {"slant": -1.2}],
)
def test_good_interventions_pass(do: dict[str, float]) -> None:
    get_graph("morphomnist").check_do(do)


@pytest.mark.parametrize(
    "do, message",
    [
        ({"thickness": 12}, "do thickness=12: thickness must be 0.5 to 10 px"),
        ({"thickness": math.nan}, "do thickness=nan: thickness must be 0.5 to 10 px"),
        ({"digit": 3, "intensity": -1}, "do intensity=-1: intensity must be 0 to 255 grey levels"),
        ({"slant": 1.3}, "do slant=1.3: slant must be -1.2 to 1.2 rad"),
        ({"digit": 3.5}, "do digit=3.5: digit must be a whole number, 0 to 9"),
        ({"digit": 10}, "do digit=10: digit must be a whole number, 0 to 9"),
        ({"digit": math.nan}, "do digit=nan: digit must be a whole number, 0 to 9"),
        ({"digit": math.inf}, "do digit=inf: digit must be a whole number, 0 to 9"),
        (
            {"thicknes": 3},
            "unknown variable 'thicknes'; known: thickness (0.5 to 10 px), intensity (0 to 255 grey levels), "
            "digit (0 to 9), slant (-1.2 to 1.2 rad)",
        ),
        (
            {"image": 0},
            "unknown variable 'image'; known: thickness (0.5 to 10 px), intensity (0 to 255 grey levels), "
            "digit (0 to 9), slant (-1.2 to 1.2 rad)",
        ),
    ],
)
def test_wrong_interventions_are_named(do: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as error:
        get_graph("morphomnist").check_do(do)
    assert str(error.value) == message


def test_a_binary_variable_is_0_or_1() -> None:
    get_graph("celebahq").check_do({"Smiling": 1})
    for value in (0.5, 2, -1):
        with pytest.raises(InputError, match="Smiling must be 0 or 1"):
            get_graph("celebahq").check_do({"Smiling": value})
