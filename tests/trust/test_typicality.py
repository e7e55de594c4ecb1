"""Typicality of noise: known noises, and the round trip through a checkpoint."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from dscm.trust.ranks import ALARM
from dscm.trust.typicality import BANDS, Typicality, describe_noise


class Parts(NamedTuple):
    """Noise of an image as mechanisms have it."""

    u: Tensor
    z: Tensor


def draw(n: int, seed: int, scale: float = 1.0, code: float = 1.0, size: int = 16) -> Parts:
    """Draw white noise and a code."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, 1, size, size, generator=generator)
    return Parts(scale * u, code * torch.randn(n, 6, generator=generator))


@pytest.fixture(scope="module")
def typicality() -> Typicality:
    """Know white noise."""
    found = Typicality.fit(describe_noise(draw(800, 0)))
    assert found is not None
    return found


def test_white_noise_has_the_same_energy_in_every_band() -> None:
    """One, as its variance; and the kurtosis of a Gaussian, 3."""
    found = describe_noise(draw(200, 1, size=32))
    assert [*found] == [*(f"u, band {i + 1}" for i in range(BANDS)), "u, peaks", "code, norm"]
    for band in range(BANDS):
        assert found[f"u, band {band + 1}"].exp().mean().item() == pytest.approx(1, abs=0.05)
    assert found["u, peaks"].exp().mean().item() == pytest.approx(3, abs=0.1)
    assert describe_noise(torch.zeros(3)) == {}


def test_a_wave_is_in_the_band_of_its_frequency() -> None:
    """Of a period of two pixels in the last one, of sixteen in the first but one."""
    x = torch.arange(16.0)
    for period, band in ((2, 4), (4, 4), (8, 3), (16, 2)):
        wave = (2 * torch.pi * x / period).cos().expand(1, 1, 16, 16)
        found = describe_noise(Parts(wave, torch.zeros(1, 0)))
        assert max((name for name in found if "band" in name), key=lambda name: found[name].item()) == f"u, band {band}"


def test_usual_noise_raises_few_alarms_and_other_noise_all(typicality: Typicality) -> None:
    """Too strong, too smooth, or with another code; and it is said what is odd."""
    usual = describe_noise(draw(2000, 2))
    assert (typicality.how_usual(usual) < ALARM).double().mean().item() < 0.02
    strong, code = describe_noise(draw(20, 3, scale=1.5)), describe_noise(draw(20, 4, code=30.0))
    noise = draw(20, 5)
    smooth = describe_noise(noise._replace(u=2 * torch.nn.functional.avg_pool2d(noise.u, 3, 1, 1)))
    for found in (strong, smooth, code):
        assert (typicality.how_usual(found) < ALARM).all()
    assert typicality.odd(code) == ["code, norm: high"] * 20
    assert {*typicality.odd(strong)} == {f"u, band {BANDS}: high"}
    broken = describe_noise(draw(1, 6)._replace(u=torch.full((1, 1, 16, 16), torch.nan)))
    assert (typicality.how_usual(broken) < ALARM).all() and len(typicality.odd(broken)) == 1


def test_state_restores_it_and_damage_is_seen(typicality: Typicality) -> None:
    state, found = typicality.state(), describe_noise(draw(9, 7))
    again = Typicality.from_state(state)
    assert torch.equal(again.how_usual(found), typicality.how_usual(found))
    for name in ("mean", "precision", "distances"):
        with pytest.raises(ValueError, match="not readable"):
            Typicality.from_state({**state, name: state[name] * torch.nan})
    assert Typicality.fit({}) is None and Typicality.fit(describe_noise(draw(3, 8))) is None
