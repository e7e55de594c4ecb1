"""Solvers of the probability-flow ODE, from noise to image and back, on any function eps_fn(x, t).

In ``x̄ = x/√ᾱ`` and the noise level ``σ = √(1−ᾱ)/√ᾱ`` the ODE is ``dx̄/dσ = ε(x, t)`` (Song et al. 2020). With the
clean image that ε implies, ``D = x̄ − σ·ε``, every step here is a DDIM step with some mean of D's in place of D:

    ddim        ``D`` at the upper level of the step, in both directions
    2m          ``D + (D − D₋)/2r``, extrapolated from the level before (DPM-Solver++(2M), Lu et al. 2022)
    trapezoid   ``(D + D')/2``, the mean over both ends, which is symmetric in them; D' from guesses of the end, the
                first of which is that of 2m

A step is inverted exactly by solving for its start. The step down of ``ddim`` is explicit and the step up implicit;
``trapezoid``, of second order, is implicit both ways; ``2m`` is explicit both ways, and not exactly invertible.

The step to σ = 0 is not invertible, so grids end at σ_min, whose x̄ is taken for the image: noise and images then
correspond one to one under any condition. Only explicit steps, the paper's, may go on to 0.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dscm.diffusion.process import EpsFn, Schedule, ddim_step


@dataclass(frozen=True)
class Solver:
    """A solver of the ODE.

    Args:
        kind: ``ddim``, ``2m`` or ``trapezoid``.
        evaluations: maximum fixed-point iterations per implicit step. 0 makes the inversion of ``ddim`` explicit, as in
            the paper (eq. 7), where the network is told the level that a step leaves (diffusers' inversion tells it the
            one that the step reaches); ``2m`` takes 0 alone, ``trapezoid`` at least 1.

    Raises:
        ValueError: the kind is unknown, or the number of evaluations does not suit it.
    """

    kind: Literal["ddim", "2m", "trapezoid"] = "ddim"
    evaluations: int = 2

    def __post_init__(self) -> None:
        """Check the two against each other."""
        if self.kind not in ("ddim", "2m", "trapezoid"):
            raise ValueError(f"solver '{self.kind}': must be ddim, 2m or trapezoid")
        if (self.kind == "2m") != (self.evaluations == 0) and self.kind != "ddim":
            raise ValueError("2m takes no fixed-point iterations, and trapezoid at least one")


Watch = Callable[[Tensor], None]  # receives the last change of each image's solution, RMS (B,), after each step


Memory = tuple[Tensor, Tensor]  # D and ᾱ of one level


def ignore(moved: Tensor) -> None:
    """Ignore it."""


def sample(eps_fn: EpsFn, x: Tensor, schedule: Schedule, grid: Tensor, solver: Solver = Solver()) -> Tensor:
    """Generate from noise down the grid (paper, eq. 6 and 8).

    Args:
        eps_fn: ``eps_fn(x, t)`` with x (B, C, H, W) and the true timesteps t (B,), predicts the noise.
        x: noise at the grid's first timestep, shape (B, C, H, W).
        schedule: the noise schedule.
        grid: descending timesteps, shape (K + 1,), from `make_grid`; the last may be 0 if no step is implicit.
        solver: the solver of the ODE.

    Returns:
        Images of the shape of ``x``: x̄ at the grid's end.
    """
    return last(sampling_path(eps_fn, x, schedule, grid, solver)) / _scale(schedule, grid, x)


def sampling_path(eps_fn: EpsFn, x: Tensor, schedule: Schedule, grid: Tensor, solver: Solver) -> Iterator[Tensor]:
    """Yield the states at each timestep of the grid on the way to the image, after the first; as `sample`."""
    if solver.kind == "trapezoid":
        return _trapezoid_path(eps_fn, x, schedule, grid, solver)
    return _explicit_path(eps_fn, x, schedule, grid, solver.kind == "2m")


def invert(eps_fn: EpsFn, x: Tensor, schedule: Schedule, grid: Tensor, solver: Solver = Solver()) -> Tensor:
    """Abduct the noise of images up the grid that `sample` walks down (paper, eq. 7 and 10).

    Args:
        eps_fn, x, schedule, grid, solver: as in `inversion_path`.

    Returns:
        Noise at the grid's first timestep, of the shape of ``x``.
    """
    return last(inversion_path(eps_fn, x, schedule, grid, solver))


def last(states: Iterable[Tensor]) -> Tensor:
    """Walk a path and return its last state."""
    (state,) = deque(states, maxlen=1)
    return state


def inversion_path(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    grid: Tensor,
    solver: Solver = Solver(),
    watch: Watch = ignore,
) -> Iterator[Tensor]:
    """Yield the states at each timestep of the grid on the way to noise, K + 1 of them, σ_min first.

    Args:
        eps_fn, schedule, grid: as in `sample`.
        x: images, shape (B, C, H, W), which are x̄ at the grid's end.
        solver: the solver of the ODE.
        watch: receives how far the solution of each implicit step still moved, RMS of a pixel on [-1, 1], (B,).

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


def _explicit_path(
    eps_fn: EpsFn, x: Tensor, schedule: Schedule, timesteps: Tensor, extrapolate: bool
) -> Iterator[Tensor]:
    """Yield the states along timesteps, up or down, with ε at the start of each step."""
    a = schedule.alpha_bar(timesteps)
    memory: Memory | None = None
    for k in range(len(a) - 1):
        eps = eps_fn(x, _fill(timesteps[k], x))
        if extrapolate:
            memory, before = (clean_image(x, eps, a[k]), a[k]), memory
            eps = eps_towards(x, _extrapolate(memory, before, a[k + 1]), a[k]) if before else eps
        x = ddim_step(x, eps, a[k], a[k + 1])
        yield x


def _trapezoid_path(
    eps_fn: EpsFn, x: Tensor, schedule: Schedule, timesteps: Tensor, solver: Solver, watch: Watch = ignore
) -> Iterator[Tensor]:
    """Yield the states along timesteps, up or down, none of them 0, by the trapezoid.

    The D of a level is that of the last guess at its state. Where noise hides the detail of images, D changes less with
    the state than ε does; at lower levels ε changes less, and D needs shorter steps there.
    """
    a = schedule.alpha_bar(timesteps)
    memory: Memory | None = None
    clean = clean_image(x, eps_fn(x, _fill(timesteps[0], x)), a[0])
    for k in range(len(a) - 1):
        t = _fill(timesteps[k + 1], x)
        memory, before = (clean, a[k]), memory
        ahead = _extrapolate(memory, before, a[k + 1])
        start = ddim_step(x, eps_towards(x, ahead, a[k]), a[k], a[k + 1])

        def correct(guess: Tensor) -> tuple[Tensor, Tensor]:
            arrived = clean_image(guess, eps_fn(guess, t), a[k + 1])
            return ddim_step(x, eps_towards(x, (clean + arrived) / 2, a[k]), a[k], a[k + 1]), arrived

        x, clean = _settle(correct, start, solver.evaluations, watch)
        yield x


def _retraced_path(
    eps_fn: EpsFn, x: Tensor, schedule: Schedule, timesteps: Tensor, solver: Solver, watch: Watch
) -> Iterator[Tensor]:
    """Yield, up along timesteps, none of them 0, each x' whose step down leads back: ``x' = step(x; ε(x', t'))``."""
    a = schedule.alpha_bar(timesteps)
    before = eps = eps_fn(x, _fill(timesteps[0], x))
    for k in range(len(a) - 1):
        t = _fill(timesteps[k + 1], x)

        def retrace(guess: Tensor) -> tuple[Tensor, Tensor]:
            seen = eps_fn(guess, t)
            return ddim_step(x, seen, a[k], a[k + 1]), seen

        # ε changes smoothly along the path; half of its last change extrapolates without amplifying its errors.
        start = ddim_step(x, torch.lerp(before, eps, 1.5), a[k], a[k + 1])
        before, (x, eps) = eps, _settle(retrace, start, solver.evaluations, watch)
        yield x


def _settle(
    improve: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, evaluations: int, watch: Watch
) -> tuple[Tensor, Tensor]:
    """Iterate ``x ← improve(x)`` towards its fixed point.

    From the second on, an iteration extrapolates the last two linearly to where they would stand still (Anderson 1965,
    depth one), which also converges where plain iteration oscillates.

    Args:
        improve: returns the better guess, and what the network said of the one before.
        x: the first guess.
        evaluations: iterations, at least 1.
        watch: as in `inversion_path`.

    Returns:
        The solution, and what the network said of the guess before it.
    """
    target, seen = improve(x)
    step = target - x
    x = target
    for _ in range(evaluations - 1):
        last_target, last_step = target, step
        target, seen = improve(x)
        step = target - x
        change = step - last_step
        size = _over_pixels(change.square()).clamp_min(torch.finfo(x.dtype).tiny)
        share = (_over_pixels(change * step) / size).clamp(-1, 1)
        x = target - share * (target - last_target)
    watch(step.square().mean(dim=(1, 2, 3)).sqrt())
    return x, seen


def _over_pixels(values: Tensor) -> Tensor:
    """Sum over the pixels of each image: (B, C, H, W) to (B, 1, 1, 1)."""
    return values.sum(dim=(1, 2, 3), keepdim=True)


def _extrapolate(now: Memory, before: Memory | None, a_to: Tensor) -> Tensor:
    """Return the D whose DDIM step is that of 2M: extrapolated in log σ to the middle of the step.

    Args:
        now, before: of this level, and of the last, if there is one.
        a_to: ᾱ of the next level.
    """
    clean, a = now
    if before is None or max(before[1], a, a_to) >= 1:  # log σ of the clean image is −∞
        return clean
    log_sigma = [(1 / level - 1).log() / 2 for level in (before[1], a, a_to)]
    share = (log_sigma[2] - log_sigma[1]) / (log_sigma[1] - log_sigma[0]) / 2  # 1/2r
    return clean + share.to(clean.dtype) * (clean - before[0])


def clean_image(x: Tensor, eps: Tensor, a: Tensor) -> Tensor:
    """Return the clean image D that ε implies at level ``a``."""
    return ddim_step(x, eps, a, torch.ones_like(a))


def eps_towards(x: Tensor, clean: Tensor, a: Tensor) -> Tensor:
    """Return the ε that implies a clean image at level ``a`` < 1: the inverse of `clean_image`."""
    return (x - a.sqrt().to(x.dtype) * clean) / (1 - a).sqrt().to(x.dtype)


def _scale(schedule: Schedule, grid: Tensor, x: Tensor) -> Tensor:
    """Return √ᾱ at the end of a grid, x/x̄, in the dtype of ``x``."""
    return schedule.alpha_bar(grid[-1]).sqrt().to(x.device, x.dtype)


def _fill(t: Tensor, x: Tensor) -> Tensor:
    """Repeat the timestep ``t`` for each image of ``x``, shape (B,), in its dtype."""
    return t.to(x.device, x.dtype).expand(len(x))
