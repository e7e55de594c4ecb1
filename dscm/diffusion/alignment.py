"""Dynamic abduction: exogenous terms that make guided generation retrace an image's own inversion.

Abduction is unguided and prediction is guided, so even the null intervention leaves the inversion path. Counterfactual
trajectory alignment (paper, eq. 20 and algorithm 1) optimises one null token per step and image until the guided path
follows it; residual abduction stores the difference at each step instead, without a gradient. Both are abducted once,
under the factual parents, and replayed under the counterfactual ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dscm.diffusion.guidance import ConditionalEps
from dscm.diffusion.process import EpsFn, Schedule, ddim_step, eps_between
from dscm.errors import InputError

OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class Alignment:
    """Settings of the alignment.

    Args:
        rate: η, the step size.
        steps: gradient steps at each timestep; 1 is the paper's algorithm 1.
        optimiser: ``sgd``, the paper's, or ``adam``, that of null-text inversion (Mokady et al. 2023).
        tolerance: mean squared error of a pixel, in [-1, 1], below which an image's token stays.
    """

    rate: float = 0.03
    steps: int = 1
    optimiser: Literal["sgd", "adam"] = "sgd"
    tolerance: float = 1e-7


@torch.enable_grad()
def align(
    eps: ConditionalEps,
    condition: Tensor,
    null: Tensor,
    weight: float,
    path: Sequence[Tensor],
    schedule: Schedule,
    grid: Tensor,
    alignment: Alignment,
    active: Callable[[Tensor], bool] = lambda t: True,
) -> Tensor:
    """Optimise null tokens so that guided generation follows the inversion path (after algorithm 1 of the paper).

    Down the grid, with ``x^ω_T = x_T`` and ``∅_T = ∅``: ``∅_t ← ∅_t − η·∇‖x_{t−1} − x^ω_{t−1}‖²`` with
    ``x^ω_{t−1} = step(x^ω_t; ε(∅_t) + ω·(ε(c) − ε(∅_t)))``, and ``∅_{t−1} ← ∅_t``. ε(c) is evaluated once a step.
    Loss, token and stop are per image, whatever the batch. This deviates from algorithm 1, whose lines 6 to 8 go on
    from the ``x^ω_{t−1}`` of the token before its update: here the path goes on from that of the updated token, which
    the prediction replays.

    Args:
        eps: ``eps(c)(x, t)``; its parameters must not require gradients.
        condition: c of the observation, shape (B, D).
        null: the trained token ∅, shape (D,).
        weight: ω.
        path: the states x at each timestep of the grid, from noise to image, K + 1 of shape (B, C, H, W).
        schedule, grid: the noise schedule and descending timesteps, shape (K + 1,).
        alignment: step size, number of steps and optimiser.
        active: tells whether to guide at timesteps t (B,), all equal; elsewhere the token stays as it is.

    Returns:
        The tokens ∅*, shape (B, K, D).
    """
    a = schedule.alpha_bar(grid)
    x, token, tokens = path[0], null.detach().expand_as(condition), []
    conditional = eps(condition)
    for k in range(len(grid) - 1):
        t = grid[k].to(x.device, x.dtype).expand(len(x))
        with torch.no_grad():
            noise = conditional(x, t)

        def move(token: Tensor) -> Tensor:
            return ddim_step(x, torch.lerp(eps(token)(x, t), noise, weight), a[k], a[k + 1])

        if active(t):
            token = _tune(token, move, path[k + 1], alignment)
            x = move(token).detach()
        else:
            x = ddim_step(x, noise, a[k], a[k + 1])
        tokens.append(token)
    return torch.stack(tokens, dim=1)


def _tune(start: Tensor, move: Callable[[Tensor], Tensor], target: Tensor, alignment: Alignment) -> Tensor:
    """Take the gradient steps of one timestep, from tokens ``start`` (B, D), to bring ``move(token)`` to a target."""
    token = start.clone().requires_grad_()
    optimiser = OPTIMISERS[alignment.optimiser]([token], lr=alignment.rate)
    for _ in range(alignment.steps):
        squared = (move(token) - target).square()  # (B, C, H, W)
        active = squared.mean(dim=(1, 2, 3)) > alignment.tolerance  # (B,)
        if not active.any():
            break
        (token.grad,) = torch.autograd.grad(squared.sum(), token)
        before = token.detach().clone()
        optimiser.step()
        with torch.no_grad():
            token.copy_(torch.where(active[:, None], token, before))
    return token.detach()


def residuals(eps_fn: EpsFn, path: Sequence[Tensor], schedule: Schedule, grid: Tensor) -> Tensor:
    """Return the noise that a noise function lacks, at each state of a path, to step to the next one.

    ``δ_t = ε(x_t → x_{t−1}) − ε_ω(x_t)``, where the first term is the noise of the DDIM step from ``x_t`` to
    ``x_{t−1}``. Generating from ``x_T`` with ``ε_ω + δ`` returns the image.

    Args:
        eps_fn: the guided noise function under the factual parents.
        path: the states x at each timestep of the grid, from noise to image, K + 1 of shape (B, C, H, W).
        schedule: the noise schedule.
        grid: descending timesteps, shape (K + 1,).

    Returns:
        Noise, shape (B, K, C, H, W).
    """
    a = schedule.alpha_bar(grid)
    missing = []
    for k in range(len(grid) - 1):
        t = grid[k].to(path[k].device, path[k].dtype).expand(len(path[k]))
        missing.append(eps_between(path[k], path[k + 1], a[k], a[k + 1]) - eps_fn(path[k], t))
    return torch.stack(missing, dim=1)


def at_timestep(grid: Tensor, values: Tensor) -> Callable[[Tensor], Tensor]:
    """Look values (B, K, …) up by timestep: return ``f(t)`` for t (B,) on the grid, all equal, with results (B, …)."""
    if values.shape[1] != len(grid) - 1:
        raise InputError(f"noise abducted in {values.shape[1]} steps cannot be used in {len(grid) - 1}")
    return lambda t: values[:, int((grid[:-1].to(t) - t[0]).abs().argmin())]
