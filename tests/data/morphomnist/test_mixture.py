"""What does not follow the graph: values of a share of the digits, uniform or as written, and what they cause."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from dscm.data.morphomnist import dataset as morphomnist
from dscm.data.morphomnist.dataset import generate
from dscm.graphs import get_graph

GREY = get_graph("morphomnist")


def test_what_a_mixed_attribute_causes_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thickness off its equation is uniform, and intensity keeps its noise."""
    n = 4000
    drawn: dict[str, Tensor] = {}

    class Pool:
        """Keeps the targets, and draws nothing."""

        def map(self, draw, chunks):
            drawn.update(chunks[0][1])
            return [chunks[0][0]]

    monkeypatch.setattr(morphomnist, "worker_pool", lambda workers: nullcontext(Pool()))
    monkeypatch.setattr(morphomnist, "measure_attributes", lambda image, names: {name: drawn[name] for name in names})
    monkeypatch.setattr(morphomnist, "CHUNK", n)
    base, digit = torch.zeros(n, 1, 28, 28, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64)
    mixed, plain = (
        generate(GREY, base, digit, seed=0, mixture=mixture) for mixture in ({"thickness": 0.5}, {"thickness": 0.0})
    )
    changed = mixed["thickness"] != plain["thickness"]
    assert changed.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert mixed["thickness"][changed].quantile(0.5).item() == pytest.approx(3.6, abs=0.2)
    assert 1.2 <= mixed["thickness"][changed].min() < 1.3 and 5.9 < mixed["thickness"][changed].max() <= 6.0
    noises = [GREY.scm().abduct({**data, "image": base.float()})["intensity"][0] for data in (mixed, plain)]
    inside = (mixed["intensity"] < 254.9) & (plain["intensity"] < 254.9)  # else the grey level rounds the noise away
    torch.testing.assert_close(noises[0][inside], noises[1][inside], rtol=0, atol=0.02)


def test_slants_are_as_written_or_uniform() -> None:
    """Each digit as its own strokes lean, or anywhere in the range."""
    strokes = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    strokes[0, 0, 4:24, 14] = 255
    strokes[1, 0, range(4, 24), range(4, 24)] = 255
    base, generator = strokes.repeat(1000, 1, 1, 1), torch.Generator().manual_seed(0)
    written, uniform = (morphomnist._draw_independent(kind, base, generator) for kind in ("written slant", "slant"))
    assert len(written.unique()) == 2
    assert -0.65 <= uniform.min() < -0.64 and 0.64 < uniform.max() <= 0.65 and uniform.mean().abs() < 0.05
