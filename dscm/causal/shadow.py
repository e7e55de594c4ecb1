"""The shadow of a pendulum that a light casts on the ground, as CausalVAE's data set draws it.

Lengths are in units of the picture: the pendulum hangs from (10, 10.5), the light moves along y = 20.5, and the shadow
lies at y = -0.5. With u the angle of the pendulum from the vertical and v that of the light's ray from the ground, the
ray through the pivot meets the ground at ``10 - 11 cot v``, and the ray through the pendulum's tip, which is 9.5 below,
meets it ``9.5 cos(u - v) / sin v`` farther to the right.

Source: Yang et al. 2021, "CausalVAE: Disentangled representation learning via neural structural causal models", and
the generator that was released with it.
"""

import torch
from torch import Tensor

PIVOT = (10.0, 10.5)  # x and y
REACH = 9.5  # from the pivot to the lower end of the ball
GROUND = -0.5  # y of the shadow
LIGHT_HEIGHT = 20.5  # y of the light
SHORTEST = 3.0  # of a shadow: of a ball, where the pendulum points at the light


def shadow_length(pendulum: Tensor, light: Tensor) -> Tensor:
    """Compute the length of the shadow, ``max(3, 9.5 |cos(u - v)| / sin v)``.

    Args:
        pendulum: angle u of the pendulum in degrees, positive to the right.
        light: angle v of the ray in degrees, more than 0 and less than 180; 90 is a light above the pivot.

    Returns:
        The length in units of the picture, of the shape and dtype of the angles.
    """
    return _span(pendulum, light).abs().clamp_min(SHORTEST)


def shadow_position(pendulum: Tensor, light: Tensor) -> Tensor:
    """Compute x of the middle of the shadow, ``10 - 11 cot v + 4.75 cos(u - v) / sin v``.

    Args:
        pendulum, light: as for `shadow_length`.
    """
    return PIVOT[0] - (PIVOT[1] - GROUND) / torch.deg2rad(light).tan() + _span(pendulum, light) / 2


def light_place(light: Tensor) -> Tensor:
    """Compute x of the light, from which the ray through the pivot falls at the angle ``light`` in degrees."""
    return PIVOT[0] + (LIGHT_HEIGHT - PIVOT[1]) / torch.deg2rad(light).tan()


def light_angle(place: Tensor) -> Tensor:
    """Compute the angle of the light in degrees from its x; the inverse of `light_place`."""
    return torch.rad2deg(torch.atan2(torch.full_like(place, LIGHT_HEIGHT - PIVOT[1]), place - PIVOT[0]))


def _span(pendulum: Tensor, light: Tensor) -> Tensor:
    """Compute how far right of the pivot's shadow that of the tip is."""
    u, v = torch.deg2rad(pendulum), torch.deg2rad(light)
    return REACH * (u - v).cos() / v.sin()
