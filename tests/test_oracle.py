"""The oracle: what it sees of an image, and what it reports of a batch."""

from pathlib import Path

import torch

from dscm.assets import DIGITS
from dscm.causal.graph_file import parse
from dscm.data.images import read_image
from dscm.data.scaling import to_signed
from dscm.graphs import get_graph
from dscm.oracle import Oracle, find_faults, observe
from tests.support.networks import F64, randn, scatter

DIGIT = next(variable for variable in get_graph("morphomnist").attributes if variable.name == "digit")

AGE = {"type": "bounded", "range": [0, 100]}
IMAGE = {"type": "image", "size": 16, "channels": 1, "parents": ["age"]}


def test_oracle_sees_the_brightest_channel_relative_to_its_maximum() -> None:
    """Tint and brightness drop out to rounding; a black image is no division by zero."""
    torch.manual_seed(0)
    oracle = scatter(Oracle([DIGIT], 3, channels=8, strokes=True))
    drawing = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=F64)
    expected = oracle.logits(2 * drawing - 1)["digit"]
    tints = torch.tensor([[1.0, 0.4, 0.0], [0.4, 0.0, 1.0], [0.0, 1.0, 0.4], [1.0, 1.0, 0.0]], dtype=F64)
    tints = tints[:, :, None, None]
    motley = torch.stack([drawing[:, 0], drawing[:, 0] * drawing[:, 0].flip(-1), drawing[:, 0] ** 2], dim=1)
    for other in (0.1 * drawing, 0.7 * drawing, tints * drawing, 0.5 * tints * drawing, motley):
        torch.testing.assert_close(oracle.logits(2 * other - 1)["digit"], expected, rtol=0, atol=1e-9)
    assert expected.std(0).min() > 0, "different drawings have different scores"
    assert oracle.logits(-torch.ones(1, 1, 28, 28, dtype=F64))["digit"].isfinite().all()


def test_oracle_reports_cross_entropy_and_accuracy() -> None:
    """Both by their definitions."""
    torch.manual_seed(0)
    oracle, x = scatter(Oracle([DIGIT], 3, channels=8, strokes=True)), randn(4, 1, 28, 28).clamp(-1, 1)
    guess = oracle.predict(x)["digit"]
    digit = torch.where(torch.arange(4) < 3, guess, (guess + 1) % 10)
    terms = oracle(x, {"digit": digit})
    assert terms["accuracy"].item() == 0.75
    log_probability = oracle.logits(x)["digit"].log_softmax(1)[torch.arange(4), digit]
    torch.testing.assert_close(terms["loss"], -log_probability.mean())


def test_a_prediction_a_little_beyond_its_domain_is_at_its_end() -> None:
    """By up to a standard deviation; one farther off stays as it is, and is a fault."""
    graph = parse({"variables": {"age": AGE, "image": IMAGE}}, Path("own.json"))
    oracle = Oracle(graph.attributes, 1, channels=8).eval()
    oracle.fit_scaling({"age": torch.tensor([40.0, 50.0, 60.0])})  # mean 50, standard deviation 10
    torch.nn.init.zeros_(oracle.head.weight)
    x, ages = torch.zeros(1, 1, 16, 16), []
    for score in (5.5, -5.5, 3.0, 7.0, torch.nan):
        torch.nn.init.constant_(oracle.head.bias, score)
        ages.append(oracle.predict(x)["age"].item())
    assert ages[:4] == [100, 0, 80, 120] and ages[4] != ages[4]
    found = find_faults(graph, {"age": torch.tensor(ages), "image": x.expand(5, 1, 16, 16)})
    assert [*found] == [3, 4] and found[3] == "age predicted as 120; allowed: 0 to 100"


def test_faults_of_an_observation_say_how_the_value_arose() -> None:
    """A measured, a given and a predicted value, the first fault of an image alone, and nothing of a sound one."""
    graph = get_graph("morphomnist")
    x = to_signed(torch.stack([read_image(DIGITS / f"{i:05}.png", 28, 1) for i in range(5)]))
    sound = observe(x, graph, None, graph.measured) | {"digit": torch.arange(5), "image": x}
    assert find_faults(graph, sound) == {}
    wrong = {name: value.clone() for name, value in sound.items()}
    wrong["thickness"][0], wrong["slant"][0], wrong["slant"][2], wrong["digit"][4] = 15.71, 9, torch.nan, 10
    assert find_faults(graph, wrong, given=["slant"]) == {
        0: "thickness measured as 15.71 px; allowed: 0.5 to 10 px",
        2: "slant given as nan rad; allowed: -1.2 to 1.2 rad",
        4: "digit predicted as 10; allowed: a whole number, 0 to 9",
    }


def test_faults_name_the_picture_before_its_values() -> None:
    """Dark strokes on white and blank pictures are told apart, whatever is measured on them."""
    graph = get_graph("morphomnist")
    digit = to_signed(read_image(DIGITS / "00000.png", 28, 1))
    x = torch.stack([digit, -digit, torch.zeros_like(digit)])
    faults = find_faults(graph, observe(x, graph, None, graph.measured) | {"image": x})
    assert [*faults] == [1, 2] and faults[1].startswith("dark strokes") and faults[2].startswith("blank")
