"""Presets: sizes that compare like with like, and one for every graph."""

from pathlib import Path
from typing import Any

import pytest

from dscm import checkpoint
from dscm.causal.graph_file import parse
from dscm.graphs import GRAPHS, get_graph
from dscm.training.presets import BASELINES, get_preset


@pytest.mark.parametrize("size", [28, 64, 192])
def test_as_many_parameters_as_the_diffusion_model(size: int) -> None:
    """Each ``tiny`` within a fifth of the semantic one's."""
    kind = {"type": "categorical", "values": list("0123456789")}
    image = {"type": "image", "size": size, "channels": 1, "parents": ["kind"]}
    graph = parse({"variables": {"kind": kind, "image": image}}, Path("graph.json"))

    def count(mechanism: Any) -> int:
        config = {**get_preset("image", graph, "tiny", mechanism).model, "size": size}
        return sum(parameter.numel() for parameter in checkpoint.build("image", graph, config).parameters())

    ratios = {name: count(name) / count("semantic") for name in BASELINES}
    assert all(0.8 < ratio < 1.2 for ratio in ratios.values()), ratios


def test_an_oracle_sees_strokes_alone_where_it_predicts_the_digit_alone() -> None:
    """Normalised strokes tell nothing of intensity or colour, which a user's graph may leave to the oracle."""
    spec = dict(get_graph("colour-morphomnist").spec)
    measured = [name for name in spec["measured"] if name != "hue"]
    predicting = parse({**spec, "measured": measured, "name": "own"}, Path("own.json"))
    for graph, strokes in (
        (get_graph("morphomnist"), True),
        (get_graph("colour-morphomnist"), True),
        (predicting, None),
    ):
        assert get_preset("oracle", graph, "tiny").model.get("strokes") is strokes


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_images_of_diffusion_are_trained_as_published(name: Any) -> None:
    """β weighs nats against errors that are summed over pixels; ``tiny`` warms up and cools, ``paper`` does neither."""
    for graph in GRAPHS.values():
        training = get_preset("image", graph, name, "semantic").training
        assert training.summed and training.beta > 0
        assert (training.warmup, training.cooling) == ((200, 1500) if name == "tiny" else (0, 0))
        assert (training.beta_warmup, training.focus) == ((1000, 0.5) if name == "tiny" else (0, 0.0))
        assert training.flip == (graph.data_set in ("celeba", "celebahq")), (
            "nobody knows whether a mirror image is as good"
        )
