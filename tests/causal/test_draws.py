"""Noise of one element of a batch belongs to that element."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dscm.causal.draws import (
    Source,
    Streams,
    draw_classes,
    draw_exponential,
    draw_normal,
    draw_uniform,
    make_streams,
)

CPU = torch.device("cpu")
NAMES = ["a.png", "sub/b.png", "c\udce9.png", "d.png"]
DRAWS: list[Callable[[int, Source], Tensor]] = [
    lambda n, source: draw_uniform((n, 3), source, torch.float64),
    lambda n, source: draw_normal((n, 2, 5), source),
    lambda n, source: draw_exponential((n, 7), source),
    lambda n, source: draw_classes(n, 10**6, source),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_an_element_draws_the_same_in_every_batch(draw: Callable[[int, Source], Tensor]) -> None:
    whole = draw(4, make_streams(3, NAMES, CPU))
    assert torch.equal(torch.cat([draw(1, make_streams(3, [name], CPU)) for name in NAMES]), whole)
    assert torch.equal(draw(3, make_streams(3, NAMES[:0:-1], CPU)), whole.flip(0)[:3])
    assert len(whole.reshape(4, -1)[:, 0].unique()) == 4


def test_the_seed_changes_every_element() -> None:
    one, other = (draw_uniform((4,), make_streams(seed, NAMES, CPU)) for seed in (0, 1))
    assert not (one == other).any()


def test_draws_have_their_distributions() -> None:
    """Moments of 4,000 elements, within four standard errors."""
    source = make_streams(0, range(4000), CPU)
    assert isinstance(source, Streams) and source.device == CPU
    uniform, normal, waits = (
        draw_uniform((4000,), source),
        draw_normal((4000,), source),
        draw_exponential((4000,), source),
    )
    assert abs(uniform.mean() - 0.5) < 0.02 and abs(uniform.var() - 1 / 12) < 0.006
    assert abs(normal.mean()) < 0.064 and abs(normal.var() - 1) < 0.09
    assert abs(waits.mean() - 1) < 0.064
    assert abs(draw_classes(4000, 2, source).float().mean() - 0.5) < 0.032


def test_one_generator_draws_as_pytorch_does() -> None:
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert torch.equal(draw_normal((3, 2), first), torch.randn(3, 2, generator=second))
    assert torch.equal(draw_classes(5, 9, first), torch.randint(9, (5,), generator=second))
