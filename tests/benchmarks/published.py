"""The published procedure: its settings, and alignment one image at a time against that of a batch."""

from functools import partial
from typing import Any

import torch
from timing import fastest, show
from torch import Tensor

from dscm.diffusion.alignment import Alignment, align, at_timestep
from dscm.diffusion.guidance import guided
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.process import ddim_step
from dscm.diffusion.solvers import inversion_path, sample

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


def compare_alignments(mechanism: DiffusionMechanism, obs: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Time the alignment of a batch against that of one image at a time with ε(c) evaluated at every gradient step."""
    pa = mechanism.scaling(obs)
    mechanism = mechanism.using(guidance=3.0, steps=25, abduction="dynamic")
    grid, alignment = mechanism.sampling.timesteps(mechanism.schedule), Alignment(0.03, 5)
    with torch.no_grad():
        condition = mechanism.condition(mechanism.encode(obs["image"], pa), pa)
        path = list(inversion_path(mechanism.eps(condition), obs["image"], mechanism.schedule, grid))[::-1]

    def together(n: int) -> float:
        part, null = [x[:n] for x in path], mechanism.null
        tokens = align(mechanism.eps, condition[:n], null, 3.0, part, mechanism.schedule, grid, alignment)
        field = guided(mechanism.eps, condition[:n], at_timestep(grid, tokens), 3.0)
        end = sample(field, part[0], mechanism.schedule, grid) * mechanism.schedule.alpha_bar(grid[-1]).sqrt().item()
        return (end - part[-1]).square().mean().item()

    def apart(n: int) -> float:
        losses = [align_naively(mechanism, condition[i : i + 1], [x[i : i + 1] for x in path], grid, alignment, 3.0)
                  for i in range(n)]  # fmt: skip
        return sum(losses) / n

    rows, sizes = [], sorted({min(size, len(pa)) for size in (4, 64, len(pa))})
    for name, work, n in [("one by one", apart, sizes[0]), *(("batched", together, size) for size in sizes)]:
        seconds, loss = fastest(partial(work, n), pa)
        rows.append({"alignment": name, "n": n, "s an image": seconds / n, "mean final loss": loss})
    for row in rows:
        row["times as fast"] = rows[0]["s an image"] / row["s an image"]
    return show("alignment, 25 steps, 5 gradient steps each, ω = 3", rows)
