"""Terms of the training objective of diffusion mechanisms, as functions."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dscm.diffusion.alignment import at_timestep, residuals
from dscm.diffusion.guidance import ConditionalEps, shifted
from dscm.diffusion.process import EpsFn, Schedule, add_noise, ddim_step, sample_timesteps
from dscm.diffusion.solvers import Solver, inversion_path, sample

SIGMAS = (80.0, 4.0, 1.0, 0.0)  # noise levels of the counterfactuals whose codes are read again
SMALL = (0.08, 1.5)  # noise levels at which small things are seen, or decided
MIDDLE = (0.5, 5.0)  # those at which parents and code decide most of what an image shows
SHORT = (10.0, 3.0, 1.0, 0.3)  # those of counterfactuals that are judged; below the last one the image stays
EXPLICIT = Solver("ddim", 0)


def choose_dropped(
    widths: Mapping[str, int],
    n: int,
    p_null: float,
    apart: bool,
    generator: torch.Generator,
    like: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose which entries of n conditions the null token replaces.

    Args:
        widths: how many entries the code and each parent take, in order; D in all.
        n: number of conditions.
        p_null: p_∅, the probability of dropping a whole condition.
        apart: with the same probability also drop the code, and each parent, by itself.
        generator: source of the choice.
        like: as in `share`.

    Returns:
        The entries, bool (n, 1) or (n, D), and the conditions that are dropped whole, bool (n,).
    """
    dropped = torch.rand(n, generator=generator, device=generator.device) < p_null
    hidden = dropped[:, None]
    if apart:
        alone = torch.rand(n, len(widths), generator=generator, device=generator.device) < p_null
        columns = zip(alone.split(1, dim=1), widths.values())
        hidden = hidden | torch.cat([column.expand(-1, width) for column, width in columns], dim=1)
    return share(hidden, like), share(dropped, like)


def draw_noise(
    value: Tensor, schedule: Schedule, generator: torch.Generator, focus: float, shift: float, like: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Draw the timesteps, float64 (B,), and the noise, (B, C, H, W), of the images of a batch.

    Args:
        value: the images, (B, C, H, W).
        schedule: the noise schedule.
        generator: source of both.
        focus, shift: as in `sample_timesteps`.
        like: as in `share`.
    """
    t = sample_timesteps(len(value), schedule, generator, focus, shift)
    eps = torch.randn(value.shape, generator=generator, device=value.device)
    return share(t, like), share(eps, like)


def share(drawn: Tensor, like: Tensor | None) -> Tensor:
    """Give images of a batch what was drawn for others of it.

    Two images that show the same thing under other parents, under one timestep and one noise, differ in their targets
    and in their gradients by what the parents make of them alone.

    Args:
        drawn: what was drawn for each image, (B, …).
        like: of each image, the one whose draw it gets, int64 (B,); None is its own.
    """
    return drawn if like is None else drawn[like]


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Average ``values`` (B,) over ``mask`` (B,), NaN where it is empty, without a host–device synchronisation."""
    return (values * mask).sum() / mask.sum()


def reread(eps_fn: EpsFn, read: Callable[[Tensor], Tensor], code: Tensor, u: Tensor, schedule: Schedule) -> Tensor:
    """Compute how far the code of an image, generated in few steps of DDIM, is from that it was generated with.

    ``‖read(x*) − e*‖²``, x* being generated from u given (e*, pa*): 0 where the generator shows the code that it is
    given, and the encoder finds it under any parents.

    Args:
        eps_fn: the network given (e*, pa*).
        read: the encoder given pa*: standardised codes, (B, code_dim), of images in [-1, 1].
        code: e*, (B, code_dim).
        u: noise, (B, C, H, W).
        schedule: the noise schedule.

    Returns:
        Shape (B,), with gradients for the network and the encoder.
    """
    image = sample(eps_fn, u, schedule, _grid(SIGMAS, schedule, u), EXPLICIT)
    return (read(image) - code).square().sum(dim=1)


def counterfactual_in_short(
    eps: ConditionalEps, condition: Tensor, new: Tensor, value: Tensor, schedule: Schedule
) -> Tensor:
    """Predict a counterfactual in three explicit steps of DDIM, by residual abduction.

    The image is inverted up to σ = 10 under its own condition, together with the residuals of the way back, so that the
    same condition returns it exactly, and only what the new one changes is left.

    Args:
        eps: ``eps(c)(x, t)``.
        condition, new: c of the observation and of the counterfactual, (B, D).
        value: the images, in [-1, 1], (B, C, H, W).
        schedule: the noise schedule.

    Returns:
        Images, (B, C, H, W), with gradients of the prediction, but not of the abduction.
    """
    grid = _grid(SHORT, schedule, value)
    with torch.no_grad():
        field = eps(condition)
        path = [*inversion_path(field, value, schedule, grid, EXPLICIT)][::-1]
        missing = residuals(field, path, schedule, grid)
    return sample(shifted(eps(new), at_timestep(grid, missing)), path[0], schedule, grid, EXPLICIT)


def predict_clean(
    eps: ConditionalEps,
    conditions: Sequence[Tensor],
    value: Tensor,
    schedule: Schedule,
    generator: torch.Generator,
    levels: tuple[float, float],
) -> list[Tensor]:
    """Predict clean images from one noised version of them under each of several conditions, ``x̂₀(x_t, c)``.

    Args:
        eps: ``eps(c)(x, t)``.
        conditions: each c, (B, D).
        value: the images, in [-1, 1], (B, C, H, W).
        schedule: the noise schedule.
        generator: source of the levels and of the noise.
        levels: the lowest and the highest σ, between which log σ is uniform.

    Returns:
        For each condition images, (B, C, H, W), with gradients.
    """
    low, high = torch.tensor(levels, dtype=torch.float64, device=value.device).log()
    place = torch.rand(len(value), generator=generator, device=value.device, dtype=torch.float64)
    t = schedule.timestep((low + (high - low) * place).exp())
    noise = torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype)
    x_t = add_noise(value, noise, schedule.alpha_bar(t))
    a = schedule.alpha_bar(t)[:, None, None, None]
    return [ddim_step(x_t, eps(c)(x_t, t), a, torch.ones_like(a)) for c in conditions]


def _grid(sigmas: Sequence[float], schedule: Schedule, like: Tensor) -> Tensor:
    """Return the timesteps of noise levels, on the device of a tensor."""
    return schedule.timestep(torch.tensor(sigmas, dtype=torch.float64)).to(like.device)
