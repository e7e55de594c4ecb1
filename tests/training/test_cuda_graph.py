"""What only a GPU can show; elsewhere these tests are skipped."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dscm import checkpoint
from dscm.graphs import get_graph
from dscm.training.presets import BASELINES, get_preset
from dscm.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def data() -> dict[str, Tensor]:
    """Noise in place of digits, with attributes."""
    drawn = get_graph("morphomnist").scm().sample(64, torch.Generator().manual_seed(0))
    drawn["image"] = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return drawn


@pytest.mark.parametrize("mechanism", ["semantic", "spatial", *BASELINES])
def test_a_captured_step_is_the_step(data: dict[str, Tensor], mechanism: Any) -> None:
    """Replaying a step's kernels gives the terms and gradients of asking for them, for other images, seeds and β."""
    graph, device = get_graph("morphomnist-digit" if mechanism == "diffscm" else "morphomnist"), torch.device("cuda")
    preset = get_preset("image", graph, "tiny", mechanism)
    torch.manual_seed(0)
    model = checkpoint.build("image", graph, {**preset.model, "size": 28})
    settings = replace(preset.training, batch=32, flip=True, p_null=0.2, apart=True)
    eager, captured = (
        Trainer(copy.deepcopy(model), data, replace(settings, static=static), device) for static in (False, True)
    )
    assert eager.captured is None and captured.captured is not None
    for step in range(3):
        index, results = torch.arange(32) + 7 * step, []
        for trainer in (eager, captured):
            torch.manual_seed(step)
            trainer.generator.manual_seed(step)
            results.append((trainer.captured or trainer.backward)(index, step / 2))
        for name, term in results[0].items():
            assert torch.allclose(results[1][name], term, rtol=1e-3, equal_nan=True), (step, name)
        for mine, theirs in zip(eager.model.parameters(), captured.model.parameters()):
            assert (mine.grad is None) == (theirs.grad is None)
            if mine.grad is not None:
                assert torch.allclose(mine.grad, theirs.grad, rtol=1e-2, atol=1e-3 * mine.grad.abs().max())
        eager.model.zero_grad()
        captured.model.zero_grad()
