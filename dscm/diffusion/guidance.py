"""Classifier-free guidance: from a conditional noise predictor to one noise function (Ho and Salimans 2022)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EpsFn = Callable[[Tensor, Tensor], Tensor]
ConditionalEps = Callable[[Tensor], EpsFn]  # binds conditions c (B, D): what depends on them alone is computed once
Groups = Sequence[tuple[Tensor, float]]  # which entries of c, bool (D,) or (B, D), have which ω; each is in one group
DO, OTHERS = "do", "others"


@dataclass(frozen=True)
class Weights:
    """Give groups of an image's parents guidance weights of their own.

    Args:
        others: ω of what is not named, the semantic code among it.
        own: variables, or ``do`` for whatever is intervened on, each with its ω.

    >>> str(Weights.parse("thickness=3,others=1"))
    'thickness=3,others=1'
    """

    others: float
    own: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Weights":
        """Read ``3``, or ``NAME=3,…,others=1``; without ``others`` that is 1.

        Raises:
            ValueError: it is neither, a name comes twice, or a weight is not more than 0.
        """
        if "=" not in text:
            text = f"{OTHERS}={text}"
        pairs = [part.split("=") for part in text.split(",")]
        weights = {name.strip(): float(value) for name, value in pairs}
        if len(weights) < len(pairs) or not all(0 < weight < float("inf") for weight in weights.values()):
            raise ValueError(text)
        others = weights.pop(OTHERS, 1.0)
        return cls(others, tuple(weights.items()))

    def __str__(self) -> str:
        """Write what `parse` reads."""
        parts = [f"{name}={weight:g}" for name, weight in self.own]
        return ",".join([*parts, f"{OTHERS}={self.others:g}"]) if parts else f"{self.others:g}"

    def resolve(self, intervened: Iterable[str]) -> "Weights":
        """Put the variables that are intervened on in the place of ``do``; those named themselves keep their weight."""
        own = dict(self.own)
        emphasis = own.pop(DO, None)
        if emphasis is not None:
            own = {name: emphasis for name in intervened} | own
        return Weights(self.others, tuple(own.items()))

    @property
    def largest(self) -> float:
        """Return the largest ω."""
        return max([self.others, *(weight for _, weight in self.own)])

    @property
    def trivial(self) -> bool:
        """Say whether nothing is amplified."""
        return {self.others, *(weight for _, weight in self.own)} == {1.0}


def guided(
    eps: ConditionalEps,
    condition: Tensor,
    null: Tensor | Callable[[Tensor], Tensor],
    weight: float | Groups = 1.0,
    active: Callable[[Tensor], bool] = lambda t: True,
) -> EpsFn:
    """Bind a condition and a guidance weight to a noise predictor.

    ``ε_ω(x, t) = ε(x, t, ∅) + ω·(ε(x, t, c) − ε(x, t, ∅))`` (paper, eq. 16), in one pass over a doubled batch. With
    groups of entries of c, from that of the smallest weight to that of the largest,

        ``ε_ω = ε(c_0) + Σ_i ω_i·(ε(c_i) − ε(c_{i−1}))``,

    where c_i has the entries of the first i groups from c, the others from ∅; so a group is amplified given those of
    smaller weights, and groups of one weight are as one. A prediction whose terms cancel is not made: with ω = 1
    the null token is not evaluated. Conditions are bound here, once for all evaluations, but for a token that changes
    with t: it is bound at each, with the condition beside it.

    Args:
        eps: ``eps(c)(x, t)`` with c (B, D), x (B, C, H, W), t (B,).
        condition: c, shape (B, D).
        null: the token ∅, shape (D,) or (B, D); or a function that gives it for timesteps t (B,).
        weight: ω; 1 is conditional, 0 unconditional, more than 1 amplifies the condition; or groups with their weights.
        active: whether to guide at timesteps t (B,), all alike; elsewhere ω is 1.

    Returns:
        ``eps_fn(x, t)``.
    """
    given = eps(condition)
    if weight == 1:
        return given
    joint = isinstance(weight, float | int)
    groups = [(torch.ones_like(condition[0], dtype=torch.bool), weight)] if joint else weight

    def bind(token: Tensor) -> tuple[EpsFn, list[float]]:
        stages, omegas = _stages(condition, token.expand_as(condition), groups)
        return eps(torch.cat(stages)), omegas

    fixed = None if callable(null) else bind(null)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        if not active(t):
            return given(x, t)
        staged, omegas = fixed or bind(null(t))
        n = len(omegas) + 1
        predictions = staged(x.repeat(n, 1, 1, 1), t.repeat(n)).chunk(n)
        result = predictions[0]
        for before, after, w in zip(predictions, predictions[1:], omegas):
            result = result + w * (after - before)
        return result

    return eps_fn


def _stages(condition: Tensor, null: Tensor, groups: Groups) -> tuple[list[Tensor], list[float]]:
    """List the conditions c_0, c_1, … that are to be evaluated, and ω between each and the next."""
    known = torch.zeros_like(condition, dtype=torch.bool)
    stages, omegas = [null], []
    for mask, weight in sorted(groups, key=lambda group: group[1]):
        known = known | mask
        stage = torch.where(known, condition, null)
        if omegas and omegas[-1] == weight:
            stages[-1] = stage
        else:
            stages.append(stage)
            omegas.append(weight)
    return (stages[1:], omegas[1:]) if omegas[0] == 1 else (stages, omegas)


def shifted(eps_fn: EpsFn, shift: Callable[[Tensor], Tensor]) -> EpsFn:
    """Add a noise that depends on the timestep alone: ``ε(x, t) + shift(t)``."""
    return lambda x, t: eps_fn(x, t) + shift(t)
