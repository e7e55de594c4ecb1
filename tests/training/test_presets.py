"""Presets: sizes that compare like with like."""

from pathlib import Path
from typing import Any

import pytest
from dscm.training.baseline_presets import get_baseline_preset

from dscm import checkpoint
from dscm.causal.graph_file import parse
from dscm.training.presets import Preset, get_preset

BASELINES = ("vae", "hvae", "vci", "diffscm")


@pytest.mark.parametrize("size", [28, 64, 192])
def test_as_many_parameters_as_the_diffusion_model(size: int) -> None:
    """Each ``tiny`` within a fifth of the semantic one's."""
    kind = {"type": "categorical", "values": list("0123456789")}
    image = {"type": "image", "size": size, "channels": 1, "parents": ["kind"]}
    graph = parse({"variables": {"kind": kind, "image": image}}, Path("graph.json"))

    def count(preset: Preset, **more: Any) -> int:
        model = checkpoint.build("image", graph.key, {**preset.model, "size": size, **more})
        return sum(parameter.numel() for parameter in model.parameters())

    diffusion = get_preset("image", "folder", "tiny", size)
    wanted = count(diffusion, **diffusion.semantic)
    found = {name: count(get_baseline_preset(name, "folder", "tiny", size)) / wanted for name in BASELINES}
    assert all(0.8 < ratio < 1.2 for ratio in found.values()), found
