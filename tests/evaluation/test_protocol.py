"""The protocol of an evaluation: the clock, and images that are not finite."""

import pytest
import torch
from torch import Tensor

from dscm.causal.mechanisms import Intervened, Mechanism, Parents
from dscm.data.scaling import l1
from dscm.errors import InputError
from dscm.evaluation.particles import Subject
from dscm.evaluation.protocol import Judge, evaluate_batch
from dscm.evaluation.task import set_task
from dscm.graphs import get_graph
from dscm.oracle import Oracle

GRAPH = get_graph("morphomnist-digit")


class Clock:
    """A clock that only work moves."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class SlowPainter(Mechanism[Tensor]):
    """Add a grey level for each digit; abduction takes three seconds an image, and prediction two."""

    event_dims = 3

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def abduct(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        self.clock.seconds += 3 * len(value)
        return value - parents["digit"][:, None, None, None] / 20

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        self.clock.seconds += 2 * len(noise)
        return noise + parents["digit"][:, None, None, None] / 20


@pytest.mark.parametrize("n", [1, 6])
def test_seconds_are_those_of_one_abduction_and_one_prediction_of_an_image(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images there are in a batch; the rest of the work does not count."""
    clock = Clock()
    for name in ("perf_counter", "monotonic", "time"):
        monkeypatch.setattr(f"time.{name}", clock)
    image = torch.randint(256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    task = set_task(GRAPH, {"image": image, "digit": torch.arange(n) % 10}, "marginal", 0)
    oracle = Oracle(GRAPH.predicted, 1, channels=4, strokes=True).eval().requires_grad_(False)
    values, images = evaluate_batch(
        Subject(GRAPH.scm(SlowPainter(clock))), Judge(GRAPH, oracle, {"l1": l1}), task, cycles=2
    )
    assert values["seconds",].tolist() == pytest.approx(n * [5.0])
    composition = values["composition", "digit", "l1"]
    assert composition.shape == (n, 2) and composition.max() < 1e-6
    assert torch.equal(images["observation"], image)


class Diverging(SlowPainter):
    """Lose the image under any digit but the observed ones, which count the images."""

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        return noise / (parents["digit"] == torch.arange(len(noise)))[:, None, None, None]


def test_images_that_are_not_finite_are_not_measured() -> None:
    image = torch.randint(256, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    task = set_task(GRAPH, {"image": image, "digit": torch.arange(4)}, "different", 0)
    judge = Judge(GRAPH, Oracle(GRAPH.predicted, 1, channels=4, strokes=True).eval(), {"l1": l1})
    with pytest.raises(InputError, match=r"do\(digit\): an image is not finite; smaller guidance"):
        evaluate_batch(Subject(GRAPH.scm(Diverging(Clock()))), judge, task, cycles=1)
