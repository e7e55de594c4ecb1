"""The task of an evaluation: how new values are drawn."""

import pytest
import torch

from dscm import assets
from dscm.causal.draws import make_streams
from dscm.causal.mechanisms import Root
from dscm.checkpoint import restore_attributes
from dscm.errors import InputError
from dscm.evaluation.task import draw_parents, set_task
from dscm.graphs import get_graph

GRAPH = get_graph("morphomnist-digit")


class Kept(Root):
    """An image that stays as it is."""

    event_dims = 3


def test_different_interventions_differ() -> None:
    """From the factual value, in every image; marginal ones are a permutation."""
    digit = torch.randint(10, (200,), generator=torch.Generator().manual_seed(0))
    image = torch.zeros(200, 1, 4, 4, dtype=torch.uint8)
    data = {"image": image, "digit": digit, "base": image}
    assert (set_task(GRAPH, data, "different", 0).interventions["digit"]["digit"] != digit).all()
    marginal = set_task(GRAPH, data, "marginal", 0).interventions["digit"]["digit"]
    assert torch.equal(marginal.sort().values, digit.sort().values) and (marginal == digit).any()
    with pytest.raises(InputError, match="too few values of digit"):
        set_task(GRAPH, data | {"digit": torch.zeros_like(digit)}, "different", 0)


def test_bins_draw_every_value_of_another_bin_alike() -> None:
    """However often each occurs; of 0 to 9, 7 and 8 share a bin, as in `test_bins`."""
    thickness = torch.cat([torch.arange(10.0), torch.full((990,), 7.0)])
    data = {"image": torch.zeros(1000, 1, 4, 4), "intensity": torch.full((1000,), 200.0), "thickness": thickness}
    data["intensity"][0] = 100  # set to the only other bin, and back
    do = set_task(get_graph("morphomnist-intensity"), data, "bins", 0).interventions
    drawn = do["thickness"]["thickness"][thickness == 7]
    counts = torch.bincount(drawn.long(), minlength=10)
    assert counts[7] == counts[8] == 0
    assert (counts[[0, 1, 2, 3, 4, 5, 6, 9]] - len(drawn) / 8).abs().max() < 45  # four standard deviations
    assert do["intensity"]["intensity"][:3].tolist() == [200, 100, 100]


def test_bins_draw_other_digits_and_refuse_a_single_value() -> None:
    digit = torch.randint(10, (500,), generator=torch.Generator().manual_seed(0))
    data = {"image": torch.zeros(500, 1, 4, 4), "digit": digit}
    drawn = set_task(GRAPH, data, "bins", 0).interventions["digit"]["digit"]
    assert (drawn != digit).all() and set(drawn.tolist()) == set(range(10))
    with pytest.raises(InputError, match="sampler bins: too few values of digit among 500 images differ"):
        set_task(GRAPH, data | {"digit": torch.zeros_like(digit)}, "bins", 0)


def test_truth_and_answers_follow_one_noise() -> None:
    """Of a class with a learned mechanism the noise is drawn, not its median, and in any batch the same."""
    graph = get_graph("celebahq")
    learned = restore_attributes(assets.find("attributes", graph), torch.device("cpu")).model
    generator = torch.Generator().manual_seed(0)
    obs = {v.name: torch.randint(2, (60,), generator=generator) for v in graph.attributes}
    obs["image"] = torch.zeros(60, 3, 4, 4)
    do = {"Smiling": 1 - obs["Smiling"]}
    found = draw_parents(graph, obs, {"Smiling": do}, 3, learned)["Smiling"]["Mouth_Slightly_Open"]
    part = slice(20, 40)
    some, change = ({name: x[part] for name, x in values.items()} for values in (obs, do))
    answer = graph.scm(Kept(), learned).counterfactual(
        some, change, make_streams(3, range(60)[part], torch.device("cpu"))
    )
    assert torch.equal(found[part], answer["Mouth_Slightly_Open"])
    assert not torch.equal(found, graph.scm(learned=learned).counterfactual(obs, do)["Mouth_Slightly_Open"])
