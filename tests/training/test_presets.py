"""Presets: sizes that compare like with like, and one for every graph."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dscm import checkpoint
from dscm.causal.graph_file import parse
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.graphs import GRAPHS, get_graph
from dscm.training.presets import BASELINES, PresetName, get_preset


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("size", [28, 64, 192])
def test_as_many_parameters_as_the_diffusion_model(size: int, preset: Any) -> None:
    """Each ``tiny`` and ``small`` within a fifth of the semantic one's."""
    kind = {"type": "categorical", "values": list("0123456789")}
    image = {"type": "image", "size": size, "channels": 1, "parents": ["kind"]}
    graph = parse({"variables": {"kind": kind, "image": image}}, Path("graph.json"))

    def count(mechanism: Any) -> int:
        config = {**get_preset("image", graph, preset, mechanism).model, "size": size}
        with torch.device("meta"):  # counted, not filled
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


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_images_of_diffusion_are_trained_as_published(name: Any) -> None:
    """β weighs nats against errors summed over pixels; ``tiny`` and ``small`` warm up and cool, ``paper`` does not."""
    warm = {"tiny": (200, 1500), "small": (200, 2000), "paper": (0, 0)}[name]
    for graph in GRAPHS.values():
        training = get_preset("image", graph, name, "semantic").training
        assert training.summed and training.beta > 0
        assert (training.warmup, training.cooling) == warm
        assert (training.beta_warmup, training.focus) == ((0, 0.0) if name == "paper" else (1000, 0.5))
        assert training.flip == (graph.data_set in ("celeba", "celebahq")), (
            "nobody knows whether a mirror image is as good"
        )


def test_an_oracle_of_faces_sees_them_mirrored_and_moved() -> None:
    """Which keeps their attributes; a digit's it does not, and of a user's images nobody knows."""
    for graph in GRAPHS.values():
        training = get_preset("oracle", graph).training
        assert (training.flip, training.move) == ((True, 4) if graph.data_set in ("celeba", "celebahq") else (False, 0))


@pytest.mark.parametrize("data", ["morphomnist", "celebahq", "embed"])
def test_small_lies_between_tiny_and_paper(data: str) -> None:
    """In what a pass of the network computes, and in images that are seen; the judges' in weights."""
    graph = get_graph(data)
    names: tuple[PresetName, ...] = ("tiny", "small", "paper")
    for part in ("image", "oracle"):
        presets = [get_preset(part, graph, name) for name in names]  # type: ignore[arg-type]
        images = [preset.steps * preset.training.batch for preset in presets]
        assert images[0] < images[1] < images[2]
        with torch.device("meta"):  # counted, not computed
            models: list[Any] = [checkpoint.build(part, graph, preset.model) for preset in presets]  # type: ignore[arg-type]
            if part == "image":
                work = [count_operations(model) for model in models]
                assert work[0] < work[1] < work[2]
        if part == "oracle":
            weights = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
            assert weights[0] < weights[1] == weights[2]


def count_operations(mechanism: DiffusionMechanism) -> int:
    """Count the floating-point operations of one pass of an image through a network on the meta device."""
    x, condition = torch.empty(1, *mechanism.shape), torch.empty(1, mechanism.null.numel())
    with FlopCounterMode(display=False) as counter:
        mechanism.unet(x, torch.empty(1), mechanism.unet.embed(condition))
    return counter.get_total_flops()
