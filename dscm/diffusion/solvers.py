"""Solvers of the probability-flow ODE, from noise to image and back, on any function eps_fn(x, t).

In ``x̄ = x/√ᾱ`` and the noise level ``σ = √(1−ᾱ)/√ᾱ`` the ODE is ``dx̄/dσ = ε(x, t)`` (Song et al. 2020). With the
clean image that ε implies, ``D = x̄ − σ·ε``, every step here is a DDIM step with some mean of D's in place of D:

    ddim        ``D`` of the level that a step down leaves, in both directions
    2m          ``D + (D − D₋)/2r``, extrapolated from the level before (DPM-Solver++(2M), Lu et al. 2022)
    trapezoid   ``(D + D')/2``, the mean of both ends, which is the same seen from either

A step is undone exactly by solving for where it came from. The step down of ``ddim`` is explicit and the step up
implicit; ``trapezoid``, of second order, is implicit both ways; ``2m`` is explicit both ways, and never exact.

A step to σ = 0 cannot be undone: it denoises, and many noises lead to one black pixel. A grid therefore ends at a
small σ_min, whose x̄ is taken for the image: then noise and images correspond one to one, whatever the conditions. Only
explicit steps, the paper's, may go on to 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dscm.diffusion.process import EpsFn, Schedule, ddim_step


@dataclass(frozen=True)
class Solver:
    """Choose how the ODE is solved.

    Args:
        kind: ``ddim``, ``2m`` or ``trapezoid``.
        evaluations: of ε in each implicit step, at most. 0 makes the inversion of ``ddim`` explicit, which is the
            paper's (eq. 7), and is all that ``2m`` knows; ``trapezoid`` needs 1.
        tolerance: an image is left alone once its solution moves by less, root mean square of a pixel on [-1, 1].

    Raises:
        ValueError: the kind is unknown, or the number of evaluations does not suit it.
    """

    kind: Literal["ddim", "2m", "trapezoid"] = "ddim"
    evaluations: int = 2
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.kind not in ("ddim", "2m", "trapezoid"):
            raise ValueError(f"solver '{self.kind}': must be ddim, 2m or trapezoid")
        if (self.kind == "2m") != (self.evaluations == 0) and self.kind != "ddim":
            raise ValueError("2m takes no evaluations of implicit steps, and trapezoid at least one")


Watch = Callable[[Tensor], None]  # is told how far each image's solution still moved, (B,), after each implicit step


def ignore(moved: Tensor) -> None:
    """Watch nothing."""


def sample(eps_fn: EpsFn, x: Tensor, schedule: Schedule, grid: Tensor, solver: Solver = Solver()) -> Tensor:
    """Generate from noise down the grid (paper, eq. 6 and 8).

    Args:
        eps_fn: ``eps_fn(x, t)`` with x (B, C, H, W) and the true timesteps t (B,), returns the noise.
        x: noise at the grid's first timestep, shape (B, C, H, W).
        schedule: the noise schedule.
        grid: descending timesteps, shape (K + 1,), from `make_grid`; the last may be 0 if no step is implicit.
        solver: how.

    Returns:
        Images of the shape of ``x``: x̄ at the grid's end.
    """
    if solver.kind == "trapezoid":
        states = _trapezoid_path(eps_fn, x, schedule, grid, solver)
    else:
        states = _explicit_path(eps_fn, x, schedule, grid, solver.kind == "2m")
    for x in states:
        pass
    return x / _scale(schedule, grid, x)


def invert(eps_fn: EpsFn, x: Tensor, schedule: Schedule, grid: Tensor, solver: Solver = Solver()) -> Tensor:
    """Abduct the noise of images up the grid that `sample` walks down (paper, eq. 7 and 10).

    Args:
        eps_fn, x, schedule, grid, solver: as in `inversion_path`.

    Returns:
        Noise at the grid's first timestep, of the shape of ``x``.
    """
    for x in inversion_path(eps_fn, x, schedule, grid, solver):
        pass
    return x


def inversion_path(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    grid: Tensor,
    solver: Solver = Solver(),
    watch: Watch = ignore,
) -> Iterator[Tensor]:
    """Walk through the states at each timestep of the grid on the way to noise, K + 1 of them, σ_min first.

    Args:
        eps_fn, schedule, grid: as in `sample`.
        x: images, shape (B, C, H, W), which are x̄ at the grid's end.
        solver: how.
        watch: is told how far the solution of each implicit step was still moving, (B,).

    Returns:
        An iterator over states of the shape of ``x``.
    """
    x, up = x * _scale(schedule, grid, x), grid.flip(0)
    yield x
    if solver.kind == "trapezoid":
        yield from _trapezoid_path(eps_fn, x, schedule, up, solver, watch)
    elif not solver.evaluations:
        yield from _explicit_path(eps_fn, x, schedule, up, solver.kind == "2m")
    else:
        yield from _retraced_path(eps_fn, x, schedule, up, solver, watch)


def clipped(eps_fn: EpsFn, schedule: Schedule) -> EpsFn:
    """Clamp the clean image that a noise function implies to [-1, 1]. Such a generation cannot be inverted."""

    def clip(x: Tensor, t: Tensor) -> Tensor:
        a = schedule.alpha_bar(t[0])
        return _eps_towards(x, _clean(x, eps_fn(x, t), a).clamp(-1, 1), a)

    return clip


def _explicit_path(
    eps_fn: EpsFn, x: Tensor, schedule: Schedule, timesteps: Tensor, extrapolate: bool
) -> Iterator[Tensor]:
    """Walk along timesteps, up or down, with ε at the level that each step leaves; yields what each arrives at."""
    a, memory = schedule.alpha_bar(timesteps), None
    for k in range(len(a) - 1):
        eps = eps_fn(x, _fill(timesteps[k], x))
        memory, before = (x, eps, a[k]), memory
        steps = a[k - 1], a[k], a[k + 1]
        x = ddim_step(x, _extrapolate(memory, before, steps) if extrapolate else eps, a[k], a[k + 1])
        yield x


def _trapezoid_path(
    eps_fn: EpsFn, x: Tensor, schedule: Schedule, timesteps: Tensor, solver: Solver, watch: Watch = ignore
) -> Iterator[Tensor]:
    """Walk along timesteps, up or down, none of them 0; yields what each step arrives at."""
    a, memory = schedule.alpha_bar(timesteps), None
    eps = eps_fn(x, _fill(timesteps[0], x))
    for k in range(len(a) - 1):
        t = _fill(timesteps[k + 1], x)
        memory, before = (x, eps, a[k]), memory
        start = ddim_step(x, _extrapolate(memory, before, (a[k - 1], a[k], a[k + 1])), a[k], a[k + 1])

        def correct(guess: Tensor) -> tuple[Tensor, Tensor]:
            arrived = eps_fn(guess, t)
            mean = (_clean(x, eps, a[k]) + _clean(guess, arrived, a[k + 1])) / 2
            return ddim_step(x, _eps_towards(x, mean, a[k]), a[k], a[k + 1]), arrived

        x, eps = _settle(correct, start, solver, watch)
        yield x


def _retraced_path(
    eps_fn: EpsFn, x: Tensor, schedule: Schedule, timesteps: Tensor, solver: Solver, watch: Watch
) -> Iterator[Tensor]:
    """Walk up along timesteps, none of them 0; yields each x' whose step down leads back, ``x' = step(x; ε(x', t'))``."""
    a = schedule.alpha_bar(timesteps)
    before = eps = eps_fn(x, _fill(timesteps[0], x))
    for k in range(len(a) - 1):
        t = _fill(timesteps[k + 1], x)

        def retrace(guess: Tensor) -> tuple[Tensor, Tensor]:
            seen = eps_fn(guess, t)
            return ddim_step(x, seen, a[k], a[k + 1]), seen

        # ε changes smoothly along the path. Half of its last change, rather than all, does not amplify its errors.
        start = ddim_step(x, torch.lerp(before, eps, 1.5), a[k], a[k + 1])
        before, (x, eps) = eps, _settle(retrace, start, solver, watch)
        yield x


def _settle(
    improve: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, solver: Solver, watch: Watch
) -> tuple[Tensor, Tensor]:
    """Iterate ``x ← improve(x)``, each image until it moves by less than the tolerance or evaluations run out.

    From the second on, an iteration goes to where the last two, were they linear, would stand still on their line
    (Anderson 1965, depth one), which also converges where plain iteration turns back and forth.

    Args:
        improve: returns the better guess and the ε that it was made with.
        x: the first guess.
        solver, watch: as in `inversion_path`.

    Returns:
        The solution, and ε at the guess before it.
    """
    pixels = {"dim": (1, 2, 3), "keepdim": True}
    moving = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    eps, moved, target, step = torch.zeros_like(x), torch.zeros_like(x[:, :1, :1, :1]), x, None
    for _ in range(solver.evaluations):
        last_target, last_step = target, step
        target, seen = improve(x)
        step = target - x
        better = target
        if last_step is not None:
            change = step - last_step
            size = change.square().sum(**pixels).clamp_min(torch.finfo(x.dtype).tiny)
            share = ((change * step).sum(**pixels) / size).clamp(-1, 1)
            better = target - share * (target - last_target)
        x, eps = torch.where(moving, better, x), torch.where(moving, seen, eps)
        moved = torch.where(moving, step.square().mean(**pixels).sqrt(), moved)
        moving = moving & (moved > solver.tolerance)
        if not moving.any():
            break
    watch(moved[:, 0, 0, 0])
    return x, eps


def _extrapolate(
    now: tuple[Tensor, Tensor, Tensor],
    before: tuple[Tensor, Tensor, Tensor] | None,
    levels: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Return the ε whose DDIM step is that of 2M: with D extrapolated in log σ to the middle of the step.

    Args:
        now, before: image, ε and ᾱ at this level, and at the last, if there is any.
        levels: ᾱ of the last, this and the next level.
    """
    x, eps, a = now
    if before is None or max(levels) >= 1:  # log σ of the clean image is −∞
        return eps
    log_sigma = torch.stack([(1 / a - 1).log() / 2 for a in levels])
    share = (log_sigma[2] - log_sigma[1]) / (log_sigma[1] - log_sigma[0]) / 2  # 1/2r
    clean, last = _clean(x, eps, a), _clean(*before)
    return _eps_towards(x, clean + share.to(x.dtype) * (clean - last), a)


def _clean(x: Tensor, eps: Tensor, a: Tensor) -> Tensor:
    """Return the clean image D that ε implies at level ``a``."""
    return ddim_step(x, eps, a, torch.ones_like(a))


def _eps_towards(x: Tensor, clean: Tensor, a: Tensor) -> Tensor:
    """Return the ε that implies a clean image at level ``a`` < 1: the inverse of `_clean`."""
    return (x - a.sqrt().to(x.dtype) * clean) / (1 - a).sqrt().to(x.dtype)


def _scale(schedule: Schedule, grid: Tensor, x: Tensor) -> Tensor:
    """Return √ᾱ at the end of a grid, x/x̄, in the dtype of ``x``."""
    return schedule.alpha_bar(grid[-1]).sqrt().to(x.device, x.dtype)


def _fill(t: Tensor, x: Tensor) -> Tensor:
    """Repeat the timestep ``t`` for each image of ``x``, shape (B,), in its dtype."""
    return t.to(x.device, x.dtype).expand(len(x))
