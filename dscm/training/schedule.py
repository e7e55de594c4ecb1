"""Hyperparameters of a training, and the values that they take from step to step."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hyperparameters:
    """How a `Trainer` minimises an objective.

    Args:
        batch: number of images in a step, over all processes.
        learning_rate: the peak learning rate of Adam, reached after ``warmup`` steps.
        warmup: steps over which the learning rate rises from zero.
        cooling: steps after which it falls as 1/√step (Karras et al. 2024); 0 keeps it constant.
        ema: decay of the averaged weights.
        beta: weight of the KL term, reached after ``beta_warmup`` steps.
        beta_warmup: steps over which β rises from zero.
        gamma: weight γ of the divergence of the codes from N(0, I), as in `FlowPrior.divergence`.
        kappa: weight κ of the change of codes that are read again from counterfactuals, as in `reread`.
        p_null: p_∅, the probability of dropping a condition.
        apart: also drop the code, and each parent, independently.
        focus: share of the timesteps drawn at log-normal noise levels, as in `sample_timesteps`.
        shift: factor of the noise levels, as in `sample_timesteps`.
        flip, move: mirror half of the images, and move each by so many pixels at most, as `augment` does.
        summed: whether the loss is a sum over pixels, as those of image mechanisms; it is then divided by their number,
            so that one bound on the gradient's norm suits every size.
        static: whether the objective has fixed shapes and never waits for the device, so that a CUDA graph can replay
            its steps.
        precision: the precision of the networks; weights and gradients stay float32.
        seed: of the order of the images and of everything random in a step.
        balance: binary attributes whose rare values are drawn more often, as `dscm.training.balance.balance` says.
        independent: the interventions whose classes are drawn independent of others, as `make_independent` there says.
        pairs: whether half of a batch show what the other half shows, as `dscm.training.pairs.Pairs` says.
        window: with pairs, the height and width of the windows that are all that is seen of the images, as
            `place_windows` places them; None is the whole.
    """

    batch: int
    learning_rate: float
    warmup: int = 0
    cooling: int = 0
    ema: float = 0.999
    beta: float = 0.0
    beta_warmup: int = 0
    gamma: float = 0.0
    kappa: float = 0.0
    p_null: float = 0.0
    apart: bool = False
    focus: float = 0.0
    shift: float = 1.0
    flip: bool = False
    move: int = 0
    summed: bool = False
    static: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    balance: tuple[str, ...] = ()
    independent: tuple[tuple[str, ...], ...] = ()
    pairs: bool = False
    window: int | None = None

    @property
    def weighs(self) -> bool:
        """Tell whether some images are drawn more often than others."""
        return bool(self.balance or self.independent)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1: a linear rise, then 1/√step once it cools."""
        rise = min(1.0, step / max(self.warmup, 1))
        fall = min(1.0, (self.cooling / step) ** 0.5) if self.cooling else 1.0
        return self.learning_rate * (rise * fall)

    def beta_at(self, step: int) -> float:
        """Return β of a step, counted from 1."""
        return self.beta * min(1.0, step / max(self.beta_warmup, 1))

    def arguments(self, beta: float | Tensor) -> dict[str, Any]:
        """Return what objectives may take besides images, parents and a generator."""
        names = ("p_null", "gamma", "kappa", "focus", "shift", "apart")
        return {"beta": beta} | {name: getattr(self, name) for name in names}


def draw_batch(n: int, batch: int, step: int, seed: int, weights: Tensor | None = None) -> Tensor:
    """Draw the images of a step: consecutive slices of one permutation per epoch, a function of its arguments alone.

    With weights an epoch holds image i ⌊w_i⌋ or ⌈w_i⌉ times, w_i times on average (systematic sampling).

    Args:
        n: number of images.
        batch: number of images in a step; at most n are drawn.
        step: counted from 1.
        seed: the seed of the permutations.
        weights: how often each image is drawn in an epoch, float64 (n,), of mean 1; None is once.

    Returns:
        Indices, (min(batch, n),).
    """
    batch = min(batch, n)
    epoch, position = divmod(step - 1, n // batch)
    return _order(n, step_seed(seed, epoch, 0), weights)[position * batch : (position + 1) * batch]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into one seed, so that a resumed training draws what an uninterrupted one would."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


@lru_cache(maxsize=1)
def _order(n: int, seed: int, weights: Tensor | None) -> Tensor:
    """Return the images of an epoch in their order, which serves all of its steps; the cache knows weights by identity.

    With weights, n points at equal distances, all shifted by one random number, fall into intervals of lengths w_i.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    if weights is None:
        return order
    points = torch.arange(n, dtype=weights.dtype) + torch.rand((), generator=generator, dtype=weights.dtype)
    ends = weights.cumsum(0)
    return torch.searchsorted(ends * (n / ends[-1]), points, right=True).clamp_max(n - 1)[order]
