"""The task of an evaluation: how new values are drawn."""

import pytest
import torch

from dscm.errors import InputError
from dscm.evaluation.task import set_task
from dscm.graphs import get_graph

GRAPH = get_graph("morphomnist-digit")


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
