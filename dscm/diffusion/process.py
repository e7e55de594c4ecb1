"""The diffusion process, and one step of DDPM and DDIM (Ho et al. 2020; Song et al. 2020).

Nothing here knows networks, conditions or guidance. ᾱ is written ``a``; ``x_t = √a·x_0 + √(1−a)·ε``, and
``σ = √(1−a)/√a`` is the noise level of ``x_t/√a``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

EpsFn = Callable[[Tensor, Tensor], Tensor]
SIGMA_MIN, SIGMA_MAX = 0.01, 80.0  # about a grey level; where nothing of an image is left
REFERENCE = 64  # pixels a side of the images whose noise levels are not shifted


@dataclass(frozen=True)
class Schedule:
    """A noise schedule: ``log ᾱ`` at the timesteps 0 … T, linear in between; ᾱ(0) is exactly 1.

    Args:
        log_alpha_bar: float64, shape (T + 1,), starting at 0 and decreasing.
    """

    log_alpha_bar: Tensor
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def steps(self) -> int:
        """Return T."""
        return len(self.log_alpha_bar) - 1

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return ᾱ at real timesteps ``t`` in [0, T], any shape, as float64."""
        t = t.double()
        table = self._table(t.device)
        low = t.floor().long().clamp(0, self.steps - 1)
        return torch.lerp(table[low], table[low + 1], t - low).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Return the noise levels ``σ = √(1/ᾱ − 1)`` at real timesteps in [0, T], any shape, as float64."""
        return (1 / self.alpha_bar(t) - 1).sqrt()

    def timestep(self, sigma: Tensor) -> Tensor:
        """Return the real timesteps whose noise level is ``sigma`` ≥ 0, any shape, as float64; at most T."""
        target = -torch.log1p(sigma.double() ** 2)  # log ᾱ, since ᾱ = 1/(1 + σ²)
        falling = -self._table(sigma.device)
        high = torch.searchsorted(falling, -target).clamp(1, self.steps)
        fraction = (-target - falling[high - 1]) / (falling[high] - falling[high - 1])
        return high - 1 + fraction.clamp(0, 1)

    def _table(self, device: torch.device) -> Tensor:
        """Return ``log ᾱ`` on a device; the copy is cached, which avoids a transfer at each call."""
        if device not in self._copies:
            self._copies[device] = self.log_alpha_bar.to(device)
        return self._copies[device]


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """Build the schedule whose β rises linearly from ``first`` to ``last`` (Ho et al. 2020)."""
    beta = torch.linspace(first, last, steps, dtype=torch.float64)
    return Schedule(torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-beta).cumsum(0)]))


def cosine_schedule(steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """Build ``ᾱ(t) ∝ cos²(π/2·(t/T + s)/(1 + s))``, with β at most ``max_beta`` (Nichol and Dhariwal 2021)."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = (1 - curve[1:] / curve[:-1]).clamp(max=max_beta)
    return Schedule(torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-beta).cumsum(0)]))


SCHEDULES = {"linear": linear_schedule, "cosine": cosine_schedule}


def make_grid(
    schedule: Schedule,
    steps: int,
    kind: Literal["log-sigma", "edm", "uniform"] = "log-sigma",
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
) -> Tensor:
    """Build the grid of timesteps that a solver visits.

    Args:
        schedule: the noise schedule.
        steps: K, the number of steps, at least 1.
        kind: ``log-sigma`` spaces log σ evenly from ``sigma_max`` to ``sigma_min``; ``edm`` spaces σ^(1/7) evenly
            (Karras et al. 2022); ``uniform`` spaces t evenly from T, as the paper does.
        sigma_min: end of the grid; 0 is the clean image, and not allowed for ``log-sigma``.
        sigma_max: start of the grids other than ``uniform``, at most that of T.

    Returns:
        Descending real timesteps, float64, shape (K + 1,).

    Raises:
        ValueError: ``log-sigma`` with ``sigma_min`` 0.
    """
    if kind == "uniform":
        last = schedule.timestep(torch.tensor(sigma_min, dtype=torch.float64)).item()
        return torch.linspace(schedule.steps, last, steps + 1, dtype=torch.float64)
    sigma_max = min(sigma_max, math.sqrt(math.expm1(-schedule.log_alpha_bar[-1].item())))  # of T
    if kind == "edm":
        sigma = torch.linspace(sigma_max ** (1 / 7), sigma_min ** (1 / 7), steps + 1, dtype=torch.float64) ** 7
    else:
        sigma = torch.linspace(math.log(sigma_max), math.log(sigma_min), steps + 1, dtype=torch.float64).exp()
    return schedule.timestep(sigma)


def stretch_grid(schedule: Schedule, steps: int, levels: Sequence[float], sigma_min: float) -> Tensor:
    """Build a grid that is spaced as noise levels that were fitted to a model.

    Between them log σ is linear in the number of the step. They are stretched, in log σ, to end at ``sigma_min``.

    Args:
        schedule: the noise schedule.
        steps: K.
        levels: σ, descending, at least two.
        sigma_min: end of the grid, below the highest level.

    Returns:
        Descending real timesteps, float64, shape (K + 1,).
    """
    fitted = torch.tensor(levels, dtype=torch.float64).log()
    fitted = fitted[0] + (fitted - fitted[0]) * (math.log(sigma_min) - fitted[0]) / (fitted[-1] - fitted[0])
    position = torch.linspace(0, len(fitted) - 1, steps + 1, dtype=torch.float64)
    low = position.long().clamp_max(len(fitted) - 2)
    return schedule.timestep(torch.lerp(fitted[low], fitted[low + 1], position - low).exp())


def add_noise(x: Tensor, eps: Tensor, a: Tensor) -> Tensor:
    """Diffuse clean images: ``x_t = √a·x + √(1−a)·ε``; ``a`` of shape (B,), the others (B, C, H, W)."""
    a = a.to(x.dtype)[:, None, None, None]
    return a.sqrt() * x + (1 - a).sqrt() * eps


def velocity(x: Tensor, eps: Tensor, a: Tensor) -> Tensor:
    """Return ``v = √a·ε − √(1−a)·x``, the target of a v-predicting network (Salimans and Ho 2022)."""
    a = a.to(x.dtype)[:, None, None, None]
    return a.sqrt() * eps - (1 - a).sqrt() * x


def eps_from_velocity(v: Tensor, x_t: Tensor, a: Tensor) -> Tensor:
    """Return ``ε = √a·v + √(1−a)·x_t``; ``a`` of shape (B,)."""
    a = a.to(x_t.dtype)[:, None, None, None]
    return a.sqrt() * v + (1 - a).sqrt() * x_t


def size_shift(size: int) -> float:
    """Return the factor by which noise levels rise with the size of images: ``size/64``, at least 1.

    Averaging over blocks of k × k pixels keeps what is seen from afar and divides the σ of noise by k. An image of d
    pixels thus hides at ``σ·d/64`` what one of 64 pixels hides at σ: ``log SNR + 2·log(64/d)``, since
    ``log SNR = −2·log σ`` (Hoogeboom et al. 2023, simple diffusion). Smaller images keep the levels of 64 pixels.

    Args:
        size: height and width in pixels.
    """
    return max(1.0, size / REFERENCE)


def sample_timesteps(
    n: int, schedule: Schedule, generator: torch.Generator, focus: float = 0.0, shift: float = 1.0
) -> Tensor:
    """Sample the timesteps of a training batch, in random order: a share of log-normal σ, the others uniform in [0, T].

    Uniform timesteps, DDPM's, spend half of a batch at noise levels that determine only the coarsest shape; log-normal
    ones, ``ln σ ~ N(−0.4, 1.4²)`` (after Karras et al. 2022), concentrate where detail is decided. Both are stratified,
    one sample from each equal part, which lowers the variance of the loss. The noise levels of both are then multiplied
    by ``shift``, as by a schedule that is shifted so; the highest are left out, so that none lies beyond T.

    Args:
        n: number of timesteps.
        schedule: the noise schedule.
        generator: source of the samples; its device is that of the result.
        focus: the log-normal share, in [0, 1].
        shift: the factor of the noise levels, at least 1, as of `size_shift`.

    Returns:
        Real timesteps, float64, shape (n,).
    """
    focused = round(focus * n)
    uniform = _stratify(n - focused, generator)
    sigma = (1.4 * torch.special.ndtri(_stratify(focused, generator)) - 0.4).exp()
    t = torch.cat([_shift_uniform(uniform, schedule, shift), schedule.timestep(shift * sigma)])
    return t[torch.rand(n, generator=generator, device=generator.device).argsort()]


def _shift_uniform(fraction: Tensor, schedule: Schedule, shift: float) -> Tensor:
    """Return the timesteps at ``shift`` times the noise levels of timesteps uniform in [0, T'], which end in T."""
    if shift == 1:
        return fraction * schedule.steps
    end = torch.tensor(schedule.steps)  # on the CPU, since a CUDA graph can copy nothing from it
    last = schedule.timestep(schedule.sigma(end) / shift).item()
    return schedule.timestep(shift * schedule.sigma(fraction * last))


def _stratify(n: int, generator: torch.Generator) -> Tensor:
    """Sample one number from each n-th of [0, 1), ascending, float64."""
    device = generator.device
    return (torch.arange(n, device=device) + torch.rand(n, generator=generator, device=device, dtype=torch.double)) / n


def ddim_step(x: Tensor, eps: Tensor, a_from: Tensor, a_to: Tensor) -> Tensor:
    """Move between two noise levels along a fixed noise direction, downwards or upwards.

    ``x' = √a'·(x/√a + (σ' − σ)·ε)``, which is ``√a'·x̂_0 + √(1−a')·ε`` with ``x̂_0 = (x − √(1−a)·ε)/√a``
    (paper, eq. 3, 6 and 7).

    Args:
        x: images at level ``a_from``, shape (B, C, H, W).
        eps: the noise, same shape.
        a_from, a_to: ᾱ of the two levels, scalars.
    """
    sigma_from, sigma_to = (1 / a_from - 1).sqrt(), (1 / a_to - 1).sqrt()
    scale = (a_to / a_from).sqrt().to(x.dtype)
    return scale * x + (a_to.sqrt() * (sigma_to - sigma_from)).to(x.dtype) * eps


def clamped(eps_fn: EpsFn, schedule: Schedule) -> EpsFn:
    """Return the noise function whose implied clean images are those of another, clamped to [-1, 1].

    ``x̂_0 = clamp((x_t − √(1−a)·ε)/√a, −1, 1)``, then ``ε' = (x_t − √a·x̂_0)/√(1−a)``; no solver hears of it. At a = 1
    any ε implies the same image, and ε is returned. Not invertible where a pixel is clamped.

    Args:
        eps_fn: ``eps_fn(x, t)`` with x (B, C, H, W) and t (B,).
        schedule: the noise schedule.
    """

    def clamped_eps(x: Tensor, t: Tensor) -> Tensor:
        eps, a = eps_fn(x, t), schedule.alpha_bar(t)[:, None, None, None]
        signal, noise = a.sqrt().to(x.dtype), (1 - a).sqrt().to(x.dtype)
        clean = ((x - noise * eps) / signal).clamp(-1, 1)
        safe = torch.where(noise > 0, noise, 1.0)
        return torch.where(noise > 0, (x - signal * clean) / safe, eps)

    return clamped_eps


def eps_between(x: Tensor, x_to: Tensor, a_from: Tensor, a_to: Tensor) -> Tensor:
    """Return the noise with which `ddim_step` moves ``x`` exactly to ``x_to``: its inverse in ε."""
    return (x_to - ddim_step(x, torch.zeros_like(x), a_from, a_to)) / ddim_step(
        torch.zeros_like(x), torch.ones_like(x), a_from, a_to
    )


def ancestral(eps_fn: EpsFn, x: Tensor, schedule: Schedule, grid: Tensor, generator: torch.Generator) -> Tensor:
    """Generate from noise with DDPM's stochastic steps (Ho et al. 2020, algorithm 2; DDIM's η = 1).

    A step from a to a' is a DDIM step that keeps ``1 − a' − s²`` of the noise's variance, plus fresh noise of variance
    ``s² = (1−a')/(1−a)·(1 − a/a')``.

    Args:
        eps_fn, x, schedule: as in `solvers.sample`.
        grid: descending timesteps to 0, shape (K + 1,); DDPM's is uniform with K = T.
        generator: source of the added noise, on the device of ``x``.

    Returns:
        Images of the shape of ``x``.
    """
    a = schedule.alpha_bar(grid)
    for k in range(len(grid) - 1):
        eps = eps_fn(x, grid[k].to(x.device, x.dtype).expand(len(x)))
        variance = (1 - a[k + 1]) / (1 - a[k]) * (1 - a[k] / a[k + 1])
        clean = ddim_step(x, eps, a[k], torch.ones_like(a[k]))
        kept = (1 - a[k + 1] - variance).clamp_min(0).sqrt().to(x.dtype)
        fresh = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = a[k + 1].sqrt().to(x.dtype) * clean + kept * eps + variance.sqrt().to(x.dtype) * fresh
    return x
