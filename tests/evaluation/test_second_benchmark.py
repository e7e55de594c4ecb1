"""The second benchmark's scores of models whose scores are known."""

import math

import pytest
import torch
from torch import Tensor

from dscm import assets
from dscm.causal.mechanisms import Intervened, Mechanism, Parents
from dscm.data.scaling import to_levels
from dscm.evaluation.latents import pad
from dscm.evaluation.second_benchmark import Instruments, choose, measure, scale_l1, show
from dscm.graphs import get_graph
from dscm.oracle import observe

GRAPH = get_graph("morphomnist-intensity")
N = 24


class Brightening(Mechanism[Tensor]):
    """Return the image, brighter by a constant."""

    event_dims = 3

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def abduct(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        return value

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        return noise + self.step


@pytest.fixture(scope="module")
def data() -> dict[str, Tensor]:
    """Bundled digits, uint8, with their measured attributes."""
    x = assets.read_observation(N)["image"]
    return {"image": to_levels(x)} | observe(x, GRAPH, None)


def pool(x: Tensor) -> Tensor:
    """Return four means of an image, and as many zeros: as latents, means and log standard deviations."""
    means = torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
    return torch.cat([means, torch.zeros_like(means)], dim=1)


def test_a_model_that_changes_nothing(data: dict[str, Tensor]) -> None:
    """Composes exactly, leaves every attribute where it was, is minimal at .295, and as real as the training set."""
    instruments = Instruments(GRAPH, None, pool, lambda x: pool(x)[:, :4], data["image"])
    scores = measure(GRAPH.scm(Brightening(0.0)), instruments, data, seed=0, batch=10)
    assert scores["composition", "1"].abs().max() < 1e-4 and scores["composition", "10"].abs().max() < 1e-4
    far = scores["effectiveness", "thickness", "thickness"]
    assert far.shape == (N,) and far.min() > 0.05  # another bin
    for path in (("minimality",), ("minimality", "thickness"), ("minimality", "intensity")):
        assert scores[path].tolist() == pytest.approx(N * [math.log(0.8 + 0.2 * math.e)])
    assert scores["fid",].item() == pytest.approx(0, abs=1e-9)
    assert "| minimality | 0.295 [0.295, 0.295] |" in show(scores) and "| fid | 0.000 |" in show(scores)


def test_composition_is_that_of_padded_images(data: dict[str, Tensor]) -> None:
    """On [0, 255]: each cycle adds half a grey level to every pixel of 28×28, and nothing to the border."""
    grey = {**data, "image": torch.full((N, 1, 28, 28), 100, dtype=torch.uint8)}
    attributes = {name: data[name] for name in ("thickness", "intensity")}
    instruments = Instruments(GRAPH, None, pool, None, grey["image"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dscm.evaluation.second_benchmark.observe", lambda *_: attributes)
        scores = measure(GRAPH.scm(Brightening(1 / 255)), instruments, grey, seed=0, batch=N)
    brighter = pad(grey["image"]).float()
    brighter[..., 2:30, 2:30] += 0.5
    expected = (brighter - pad(grey["image"]).float()).mean().item()
    assert scores["composition", "1"].tolist() == pytest.approx(N * [expected], rel=1e-4)
    assert scores["composition", "10"].tolist() == pytest.approx(N * [10 * expected], rel=1e-4)
    assert scale_l1(28) == pytest.approx(195.2, abs=0.05) and ("fid",) not in scores


def test_choice_of_one_option_for_each_image() -> None:
    options = [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])]
    assert choose(options, torch.tensor([0, 1, 0])).tolist() == [1, 5, 3]
