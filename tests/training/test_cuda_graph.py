"""What only a GPU can show; elsewhere these tests are skipped."""

import copy

import pytest
import torch
from dscm.training.baseline_presets import BASELINES, get_baseline_preset
from torch import Tensor

from dscm import checkpoint
from dscm.causal.graph_file import get_graph
from dscm.training.presets import get_preset
from dscm.training.trainer import GradientStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def data() -> dict[str, Tensor]:
    """Noise in place of digits, with attributes, on the GPU."""
    drawn = get_graph("morphomnist").scm().sample(64, torch.Generator().manual_seed(0))
    drawn["image"] = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return {name: value.cuda() for name, value in drawn.items()}


@pytest.mark.parametrize("kind", ["semantic", "spatial", *BASELINES])
def test_a_recorded_step_is_the_step(data: dict[str, Tensor], kind: str) -> None:
    """Replaying a step's kernels gives the terms and gradients of asking for them, for other images, seeds and β."""
    graph = "morphomnist-digit" if kind == "diffscm" else "morphomnist"
    own = get_baseline_preset if kind in BASELINES else lambda _, *rest: get_preset("image", *rest)
    preset = own(kind, "morphomnist", "tiny", 28)
    semantic = preset.semantic if kind == "semantic" else {}
    torch.manual_seed(0)
    model = checkpoint.build("image", graph, {"size": 28, **preset.model, **semantic}).cuda()
    arguments = {"focus": 0.5} if kind == "diffscm" else {"beta": 0.0}
    if kind in ("semantic", "spatial"):
        arguments |= {"p_null": 0.2, "focus": 0.5, "apart": True}
    other = copy.deepcopy(model)
    eager, recorded = (GradientStep(m, data, True, False, record=r) for m, r in ((model, False), (other, True)))
    for step in range(3):
        index = torch.arange(32) + 7 * step
        arguments |= {"beta": step / 2} if "beta" in arguments else {}
        expected = {name: term.clone() for name, term in eager(index, step, arguments).items()}
        terms = recorded(index, step, arguments)
        for name, term in expected.items():
            assert torch.allclose(terms[name], term, rtol=1e-3, equal_nan=True), (step, name)
        for mine, theirs in zip(model.parameters(), other.parameters()):
            assert (mine.grad is None) == (theirs.grad is None)
            if mine.grad is not None:
                assert torch.allclose(mine.grad, theirs.grad, rtol=1e-2, atol=1e-3 * mine.grad.abs().max())
        model.zero_grad()
        other.zero_grad()
