"""The published procedure: its settings, and alignment one image at a time."""

from typing import Any

import torch
from torch import Tensor

from dscm.diffusion.alignment import Alignment
from dscm.diffusion.guidance import guided
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.process import ddim_step

PUBLISHED: dict[str, Any] = {"guidance": 1.5, "published": True}


def align_naively(
    mechanism: DiffusionMechanism,
    condition: Tensor,
    path: list[Tensor],
    grid: Tensor,
    alignment: Alignment,
    weight: float,
) -> float:
    """Tune the tokens of one image, with ε(c) evaluated anew for each gradient step.

    Args:
        mechanism: its noise predictor and null token are used.
        condition: c of the observation, (1, D).
        path: its states from noise to image, K + 1 of (1, C, H, W).
        grid: their timesteps.
        alignment: step size and number of gradient steps.
        weight: ω.

    Returns:
        The last step's mean squared distance to the path.
    """
    a, x, token = mechanism.schedule.alpha_bar(grid), path[0], mechanism.null.detach()[None].clone()
    for k in range(len(grid) - 1):
        t = grid[k].to(x).expand(1)

        def move(token: Tensor, x: Tensor = x, t: Tensor = t, k: int = k) -> Tensor:
            return ddim_step(x, guided(mechanism.eps, condition, token, weight)(x, t), a[k], a[k + 1])

        for _ in range(alignment.steps):
            token.requires_grad_()
            (gradient,) = torch.autograd.grad((move(token) - path[k + 1]).square().sum(), token)
            token = (token - alignment.rate * gradient).detach()
        with torch.no_grad():
            x = move(token)
    return (x - path[-1]).square().mean().item()
