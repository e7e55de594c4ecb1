"""Classifier-free guidance as a wrapper: it returns a noise function of the same signature (Ho and Salimans 2022)."""

from collections.abc import Callable

import torch
from torch import Tensor

EpsFn = Callable[[Tensor, Tensor], Tensor]
ConditionalEps = Callable[[Tensor, Tensor, Tensor], Tensor]


def guided(
    eps: ConditionalEps,
    condition: Tensor,
    null: Tensor | Callable[[Tensor], Tensor],
    weight: float | Callable[[Tensor], float] = 1.0,
) -> EpsFn:
    """Bind a condition and a guidance weight to a noise predictor.

    ``ε_ω(x, t) = ε(x, t, ∅) + ω·(ε(x, t, c) − ε(x, t, ∅))`` (paper, eq. 16), in one pass over a doubled batch.
    With ω = 1 the null token is not evaluated.

    Args:
        eps: ``eps(x, t, c)`` with x (B, C, H, W), t (B,), c (B, D).
        condition: c, shape (B, D).
        null: the token ∅, shape (D,) or (B, D); or a function that gives it for timesteps t (B,).
        weight: ω; 1 is conditional, 0 unconditional, more than 1 amplifies the condition; or a function that gives
            it for timesteps t (B,), all alike.

    Returns:
        ``eps_fn(x, t)``.
    """
    token = null if callable(null) else lambda t: null
    omega = weight if callable(weight) else lambda t: weight

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        if omega(t) == 1:
            return eps(x, t, condition)
        conditions = torch.cat([token(t).expand_as(condition), condition])
        without, given = eps(torch.cat([x, x]), torch.cat([t, t]), conditions).chunk(2)
        return torch.lerp(without, given, omega(t))

    return eps_fn


def shifted(eps_fn: EpsFn, shift: Callable[[Tensor], Tensor]) -> EpsFn:
    """Add a noise that depends on the timestep alone: ``ε(x, t) + shift(t)``."""
    return lambda x, t: eps_fn(x, t) + shift(t)
