"""Typicality of images: known noises and looks, and the round trip through a checkpoint."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from dscm.trust.ranks import ALARM
from dscm.trust.typicality import BANDS, LIKENESS, LOOK, Typicality, describe


class Parts(NamedTuple):
    """Noise of an image as mechanisms have it."""

    u: Tensor
    z: Tensor


def draw(n: int, seed: int, scale: float = 1.0, code: float = 1.0, size: int = 16) -> Parts:
    """Draw white noise and a code."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, 1, size, size, generator=generator)
    return Parts(scale * u, code * torch.randn(n, 6, generator=generator))


def look(n: int, seed: int) -> Tensor:
    """Draw images that are brighter on the left, under some noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linspace(1, -1, 16).expand(n, 1, 16, 16) + 0.5 * torch.randn(n, 1, 16, 16, generator=generator)


@pytest.fixture(scope="module")
def typicality() -> Typicality:
    """Know white noise, and images that are brighter on the left."""
    found = Typicality.fit(describe(draw(800, 0), look(800, 0)))
    assert found is not None
    return found


def test_white_noise_has_the_same_energy_in_every_band() -> None:
    """One, as its variance; and the kurtosis of a Gaussian, 3."""
    found = describe(draw(200, 1, size=32), look(200, 1))
    assert [*found] == [*(f"u, band {i + 1}" for i in range(BANDS)), "u, peaks", "code, norm", LOOK]
    for band in range(BANDS):
        assert found[f"u, band {band + 1}"].exp().mean().item() == pytest.approx(1, abs=0.05)
    assert found["u, peaks"].exp().mean().item() == pytest.approx(3, abs=0.1)
    assert [*describe(torch.zeros(3), look(3, 1))] == [LOOK]


def test_a_wave_is_in_the_band_of_its_frequency() -> None:
    """Of a period of two pixels in the last one, of sixteen in the first but one."""
    x = torch.arange(16.0)
    for period, band in ((2, 4), (4, 4), (8, 3), (16, 2)):
        wave = (2 * torch.pi * x / period).cos().expand(1, 1, 16, 16)
        found = describe(Parts(wave, torch.zeros(1, 0)), wave)
        assert max((name for name in found if "band" in name), key=lambda name: found[name].item()) == f"u, band {band}"


def test_usual_noise_raises_few_alarms_and_other_noise_all(typicality: Typicality) -> None:
    """Too strong, too smooth, or with another code; and it is said what is odd."""
    usual = describe(draw(2000, 2), look(2000, 2))
    assert (typicality.how_usual(usual) < ALARM).double().mean().item() < 0.02
    strong, code = (describe(odd, look(20, 3)) for odd in (draw(20, 3, scale=1.5), draw(20, 4, code=30.0)))
    noise = draw(20, 5)
    smooth = describe(noise._replace(u=2 * torch.nn.functional.avg_pool2d(noise.u, 3, 1, 1)), look(20, 5))
    for found in (strong, smooth, code):
        assert (typicality.how_usual(found) < ALARM).all()
    assert typicality.odd(code) == ["code, norm: high"] * 20
    assert {*typicality.odd(strong)} == {f"u, band {BANDS}: high"}
    broken = describe(draw(1, 6)._replace(u=torch.full((1, 1, 16, 16), torch.nan)), look(1, 6))
    assert (typicality.how_usual(broken) < ALARM).all() and len(typicality.odd(broken)) == 1


def test_inverted_and_mirrored_images_have_usual_noise_and_an_odd_look(typicality: Typicality) -> None:
    """Whatever their contrast is; one without any is like nothing."""
    images = look(20, 9)
    for foreign in (-images, images.flip(-1), -0.1 * images, torch.zeros(20, 1, 16, 16)):
        found = describe(draw(20, 9), foreign)
        assert (typicality.how_usual(found) < ALARM).all()
        assert typicality.odd(found) == [f"{LIKENESS}: low"] * 20
    usual, faint = (describe(draw(20, 9), x) for x in (images, 0.1 * images + 3))
    assert typicality.how_usual(faint) == pytest.approx(typicality.how_usual(usual), abs=0.01)


def test_state_restores_it_and_damage_is_seen(typicality: Typicality) -> None:
    state, found = typicality.state(), describe(draw(9, 7), look(9, 7))
    again = Typicality.from_state(state)
    assert torch.equal(again.how_usual(found), typicality.how_usual(found))
    for name in ("mean", "precision", "distances", "pattern"):
        with pytest.raises(ValueError, match="not readable"):
            Typicality.from_state({**state, name: state[name] * torch.nan})
    with pytest.raises(ValueError, match="not readable"):
        Typicality.from_state({name: value for name, value in state.items() if name != "pattern"})
    assert Typicality.fit(describe(draw(3, 8), look(3, 8))) is None


def test_a_state_of_earlier_versions_knows_the_noise_alone(typicality: Typicality) -> None:
    keep = len(typicality.names) - 1
    state = {**typicality.state(), "names": [*typicality.names[:keep]], "mean": typicality.mean[:keep]}
    state["precision"] = typicality.precision[:keep, :keep]
    old = Typicality.from_state({name: value for name, value in state.items() if name != "pattern"})
    found = describe(draw(9, 7), look(9, 7))
    assert old.knows(found) and torch.equal(old.how_usual(found), old.how_usual(describe(draw(9, 7), -look(9, 7))))
