"""Gaussian data, whose noise function and whose flow are known exactly, and a noise function that remembers."""

from collections.abc import Callable

from torch import Tensor

from dscm.diffusion.process import linear_schedule

MEAN, STD = 0.3, 0.6  # of the Gaussian data
LINEAR = linear_schedule()


def sigma_of(a: Tensor) -> Tensor:
    """Return the noise level of x/√a."""
    return (1 - a).sqrt() / a.sqrt()


def gaussian_eps(x: Tensor, t: Tensor) -> Tensor:
    """Compute the exact E[ε | x_t] of data x_0 ~ N(MEAN, STD²) under the linear schedule."""
    a = LINEAR.alpha_bar(t)[:, None, None, None]
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)


def gaussian_flow(x: Tensor, grid: Tensor) -> Tensor:
    """Solve the ODE of `gaussian_eps` exactly from the first timestep of a grid to 0."""
    a = LINEAR.alpha_bar(grid[0])
    return MEAN + (x / a.sqrt() - MEAN) * STD / (STD**2 + sigma_of(a) ** 2).sqrt()


class Recorder:
    """A noise function that remembers the timesteps and images it was called with."""

    def __init__(self, eps_fn: Callable[[Tensor, Tensor], Tensor] = gaussian_eps) -> None:
        self.eps_fn = eps_fn
        self.timesteps: list[Tensor] = []
        self.images: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x),) and t.dtype == x.dtype
        assert (t == t[0]).all(), "one step has one timestep"
        self.timesteps.append(t[0].clone())
        self.images.append(x.clone())
        return self.eps_fn(x, t)
