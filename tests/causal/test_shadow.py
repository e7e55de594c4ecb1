"""The shadow of a pendulum against rays drawn by hand."""

import torch

from dscm.causal.shadow import light_angle, light_place, shadow_length, shadow_position

DEGREES = (
    torch.tensor([0.0, 0.0, 45.0, -30.0, 38.7, -36.0]).double(),
    torch.tensor([90, 45, 45, 60, 132.3, 54]).double(),
)


def cast(x: float, y: float, sun: float) -> float:
    """Return where the ray through the pivot and a light at (sun, 20.5), moved to (x, y), meets y = -0.5."""
    slope = (sun - 10) / (20.5 - 10.5)
    return x - (y + 0.5) * slope


def test_known_shadows() -> None:
    """A light above a pendulum that hangs down casts the shortest one; at 45 degrees it is as long as the pendulum."""
    pendulum, light = DEGREES
    length, position = shadow_length(pendulum, light), shadow_position(pendulum, light)
    torch.testing.assert_close(length[:3], torch.tensor([3.0, 9.5, 9.5 * 2**0.5]).double())
    torch.testing.assert_close(position[:2], torch.tensor([10.0, 3.75]).double())


def test_shadows_lie_between_the_rays_through_both_ends() -> None:
    pendulum, light = DEGREES
    angle = torch.deg2rad(pendulum)
    for i, sun in enumerate(light_place(light).tolist()):
        pivot = cast(10.0, 10.5, sun)
        tip = cast(10 + 9.5 * angle[i].sin().item(), 10.5 - 9.5 * angle[i].cos().item(), sun)
        assert abs(shadow_position(pendulum, light)[i].item() - (pivot + tip) / 2) < 1e-9
        assert abs(shadow_length(pendulum, light)[i].item() - max(3.0, abs(pivot - tip))) < 1e-9


def test_the_place_of_the_light_tells_its_angle() -> None:
    light = torch.linspace(20, 160, 15).double()
    torch.testing.assert_close(light_angle(light_place(light)), light)
    assert light_place(torch.tensor([90.0, 45.0]).double()).sub(torch.tensor([10.0, 20.0])).abs().max() < 1e-9
