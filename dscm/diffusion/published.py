"""The procedure of the paper's released code, where it departs from the paper's equations.

All T timesteps are visited, 1,000 of them. With ``x̂_0`` clamped to [-1, 1] at every step, in both directions:

    abduction    the image is taken for x_1, not for x_0; explicit DDIM steps lead to x_T, and the last one to ᾱ = 0,
                 where the state is the noise ε(x_T, T) itself
    prediction   that noise is taken for x_T; DDIM steps, guided at every level, lead to x_1, and the last one to x̂_0

Slants of counterfactuals are clamped to half a radian, whether they are predicted or set. The clamp is not invertible,
so composition and reversal are not exact at any number of steps.

Source: the code of Rasal et al. 2025, scm/image_mechanism/diffae.py and scm/numerical_mechanism/morphomnist.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from dscm.causal.graph import Graph
from dscm.diffusion.process import EpsFn, Schedule, clamped
from dscm.diffusion.solvers import Solver, invert, sample

SWITCH = (
    "The procedure of the paper's code: 1000 explicit steps of ddim, the clean image clamped at each; guided at every "
    "level, unless an interval is chosen; slants of counterfactuals within 0.5 rad."
)
IMPLIED: Mapping[str, Any] = {"steps": 1000, "grid": "uniform", "sigma_min": 0.0, "solver": "ddim", "fixed_point": 0}
PREFERRED: Mapping[str, Any] = {"guidance_interval": (0.0, 1000.0)}
LIMITS = {"morphomnist": {"slant": (-0.5, 0.5)}}  # by data set: ends of counterfactual values, in rad
EXPLICIT = Solver("ddim", 0)


def abduct(eps_fn: EpsFn, x: Tensor, schedule: Schedule, grid: Tensor) -> Tensor:
    """Return the noise of images, (B, C, H, W).

    Args:
        eps_fn: ``eps_fn(x, t)`` with the true timesteps t (B,), predicts the noise.
        x: images in [-1, 1], shape (B, C, H, W).
        schedule: the noise schedule.
        grid: descending timesteps that end at 1 and 0, shape (K + 1,).
    """
    field, first = clamped(eps_fn, schedule), schedule.alpha_bar(grid[-2]).sqrt().to(x.device, x.dtype)
    end = invert(field, x / first, schedule, grid[:-1], EXPLICIT)  # which scales x̄ by √ᾱ_1, and x is to be x_1
    return field(end, grid[0].to(x.device, x.dtype).expand(len(x)))


def predict(eps_fn: EpsFn, noise: Tensor, schedule: Schedule, grid: Tensor) -> Tensor:
    """Return the images of noise, in [-1, 1], (B, C, H, W); the arguments are as in `abduct`."""
    return sample(clamped(eps_fn, schedule), noise, schedule, grid, EXPLICIT)


def limit(graph: Graph, sampling: Any) -> Graph:
    """Return a graph; if the settings of its image's mechanism are published, with values limited as in that code."""
    published = getattr(sampling, "published", False)
    return replace(graph, limits=LIMITS.get(graph.data_set, {})) if published else graph
