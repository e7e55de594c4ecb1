"""Classifier-free guidance: from a conditional noise predictor to one noise function (Ho and Salimans 2022)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dscm.diffusion.process import EpsFn
from dscm.errors import InputError, option

ConditionalEps = Callable[[Tensor], EpsFn]  # binds conditions c (B, D), so that they are embedded once
Groups = Sequence[tuple[Tensor, float]]  # entries of c, bool (D,) or (B, D), and their ω; groups are disjoint
DO, OTHERS = "do", "others"


@dataclass(frozen=True)
class Weights:
    """Guidance weights of groups of an image's parents.

    Args:
        others: ω of all that no group names, the semantic code included.
        groups: parents, or ``do`` for the variables that are intervened on, each with its ω.

    >>> str(Weights.read("thickness=3,others=1"))
    'thickness=3,others=1'
    """

    others: float
    groups: tuple[tuple[str, float], ...] = ()

    @classmethod
    def read(cls, value: "Weights | float | str") -> "Weights":
        """Accept weights, one number, or text: ``3``, or ``NAME=3,…,others=1``, where others defaults to 1.

        Raises:
            InputError: it is none of these, a name comes twice, or a weight is not more than 0.
        """
        if isinstance(value, Weights):
            return value
        text = str(value) if "=" in str(value) else f"{OTHERS}={value}"
        try:
            pairs = [(name.strip(), float(weight)) for name, weight in (part.split("=") for part in text.split(","))]
        except ValueError:
            pairs = []
        weights = dict(pairs)
        if not pairs or len(weights) < len(pairs) or not all(0 < weight < math.inf for weight in weights.values()):
            form = "a number, more than 0, or as NAME=3,others=1"
            raise InputError(f"{option('guidance')} {value}: must be {form}")
        others = weights.pop(OTHERS, 1.0)
        return cls(others, tuple(weights.items()))

    def __str__(self) -> str:
        """Write what `read` accepts."""
        parts = [f"{name}={weight:g}" for name, weight in self.groups]
        return ",".join([*parts, f"{OTHERS}={self.others:g}"]) if parts else f"{self.others:g}"

    def resolve(self, intervened: Iterable[str]) -> "Weights":
        """Replace ``do`` by the variables that are intervened on; those named themselves keep their weight."""
        groups = dict(self.groups)
        emphasis = groups.pop(DO, None)
        if emphasis is not None:
            groups = dict.fromkeys(intervened, emphasis) | groups
        return Weights(self.others, tuple(groups.items()))

    @property
    def largest(self) -> float:
        """Return the largest ω."""
        return max([self.others, *(weight for _, weight in self.groups)])

    @property
    def by_target(self) -> bool:
        """Tell whether the weights depend on what is intervened on."""
        return any(name == DO for name, _ in self.groups)

    @property
    def apart(self) -> bool:
        """Tell whether groups have different weights, so that conditions are evaluated of which only some are null."""
        return any(weight != self.others for _, weight in self.groups)

    @property
    def trivial(self) -> bool:
        """Tell whether every weight is 1."""
        return {self.others, *(weight for _, weight in self.groups)} == {1.0}


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

    where c_i takes the entries of the first i groups from c, the others from ∅: each group is amplified given those of
    smaller weights. Groups of equal weight are merged, and terms that cancel are not evaluated: ω = 1 never evaluates
    the null token. Conditions are bound once for all timesteps, except for a token that changes with t.

    Args:
        eps: ``eps(c)(x, t)`` with c (B, D), x (B, C, H, W), t (B,).
        condition: c, shape (B, D).
        null: the token ∅, shape (D,) or (B, D); or a function that returns it for timesteps t (B,).
        weight: ω; 1 is conditional, 0 unconditional, more than 1 amplifies the condition; or groups with their weights.
        active: tells whether to guide at timesteps t (B,), all equal; elsewhere ω is 1.

    """
    conditional = eps(condition)
    if weight == 1:
        return conditional
    everything = torch.ones_like(condition[0], dtype=torch.bool)
    groups = [(everything, float(weight))] if isinstance(weight, float | int) else weight

    def bind(token: Tensor) -> tuple[EpsFn, list[float]]:
        stages, omegas = _stages(condition, token.expand_as(condition), groups)
        return eps(torch.cat(stages)), omegas

    fixed = None if callable(null) else bind(null)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        if not active(t):
            return conditional(x, t)
        staged, omegas = fixed or bind(null(t) if callable(null) else null)
        n = len(omegas) + 1
        predictions = staged(x.repeat(n, 1, 1, 1), t.repeat(n)).chunk(n)
        result = predictions[0]
        for before, after, w in zip(predictions, predictions[1:], omegas):
            result = result + w * (after - before)
        return result

    return eps_fn


def weigh(
    weights: Weights, widths: Mapping[str, int], intervened: Mapping[str, Tensor], condition: Tensor
) -> float | Groups:
    """Return ω, or the entries of conditions with theirs; variables that do not cause the image have none.

    A variable that is emphasised only because it is intervened on is emphasised where the intervention changes it.

    Args:
        weights: ω of every group.
        widths: how many entries the code and each parent take, in order; D in all.
        intervened: the variables that an intervention sets, each with where it changes them, bool (B,) or ().
        condition: shape (B, D).
    """
    named, omegas = dict(weights.groups), dict(weights.resolve(intervened).groups)
    if not omegas:
        return weights.others
    groups: list[tuple[Tensor, float]] = []
    end = 0
    for name, width in ((name, width) for name, width in widths.items() if width):
        start, end = end, end + width
        entries = condition.new_zeros(condition.shape[1], dtype=torch.bool)
        entries[start:end] = True
        everywhere = name in named or name not in intervened
        changed = entries.new_ones(1, 1) if everywhere else intervened[name].reshape(-1, 1)
        groups += [(entries & changed, omegas.get(name, weights.others)), (entries & ~changed, weights.others)]
    return groups


def _stages(condition: Tensor, null: Tensor, groups: Groups) -> tuple[list[Tensor], list[float]]:
    """List the conditions c_0, c_1, … to evaluate, and ω between each and the next."""
    known = torch.zeros_like(condition, dtype=torch.bool)
    stages: list[Tensor] = [null]
    omegas: list[float] = []
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
