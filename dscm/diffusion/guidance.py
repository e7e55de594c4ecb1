"""Classifier-free guidance: from a conditional noise predictor to one noise function (Ho and Salimans 2022)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from dscm.diffusion.process import EpsFn
from dscm.errors import InputError, option

ConditionalEps = Callable[[Tensor], EpsFn]  # binds conditions c (B, D), so that they are embedded once
Interval = tuple[float, float]  # the lowest and the highest σ at which something is guided
Value = TypeVar("Value")
EVERYWHERE = (0.0, math.inf)
DO, OTHERS = "do", "others"


class Group(NamedTuple):
    """Entries of a condition that are guided alike.

    Args:
        entries: which entries of c, bool (D,) or (B, D); those of several groups are disjoint.
        weight: ω.
        interval: noise levels σ at which they are guided; at others ω is 1.
    """

    entries: Tensor
    weight: float
    interval: Interval = EVERYWHERE


@dataclass(frozen=True)
class Weights:
    """Guidance weights of groups of an image's parents.

    Args:
        others: ω of all that no group names, the semantic code included.
        groups: parents, ``do`` for the variables that are intervened on, or ``do.NAME`` for one of them where it is
            intervened on, each with its ω.

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
        weights = _read_groups(str(value), float)
        if not weights or not all(0 < weight < math.inf for weight in weights.values()):
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
        emphasised = {name: groups.get(f"{DO}.{name}", groups.get(DO)) for name in intervened}
        chosen = {name: weight for name, weight in emphasised.items() if weight is not None}
        chosen |= {name: weight for name, weight in groups.items() if not _is_target(name)}
        return Weights(self.others, tuple(chosen.items()))

    @property
    def largest(self) -> float:
        """Return the largest ω."""
        return max([self.others, *(weight for _, weight in self.groups)])

    @property
    def by_target(self) -> bool:
        """Tell whether the weights depend on what is intervened on."""
        return any(_is_target(name) for name, _ in self.groups)

    @property
    def named(self) -> list[str]:
        """List the parents that are named."""
        return [name.removeprefix(f"{DO}.") for name, _ in self.groups if name != DO]

    @property
    def apart(self) -> bool:
        """Tell whether groups have different weights, so that conditions are evaluated of which only some are null."""
        return any(weight != self.others for _, weight in self.groups)

    @property
    def trivial(self) -> bool:
        """Tell whether every weight is 1."""
        return {self.others, *(weight for _, weight in self.groups)} == {1.0}


@dataclass(frozen=True)
class Intervals:
    """Noise levels at which groups of an image's parents are guided; elsewhere their ω is 1.

    Args:
        others: the interval of all that no group names, the semantic code included.
        groups: parents, each with its interval, whether they are intervened on or not.

    >>> str(Intervals.read("Eyeglasses=2:40,others=0.3:20"))
    'Eyeglasses=2:40,others=0.3:20'
    """

    others: Interval
    groups: tuple[tuple[str, Interval], ...] = ()

    @classmethod
    def read(cls, value: Interval | str) -> "Intervals":
        """Accept two numbers, or text: ``0.3:20``, or ``NAME=2:40,…,others=0.3:20``.

        Raises:
            InputError: it is none of these, a name comes twice, others is missing, or the ends are not in order.
        """
        found = _read_groups(value, _read_interval) if isinstance(value, str) else {OTHERS: value}
        if OTHERS not in found or not all(0 <= end < math.inf for interval in found.values() for end in interval):
            form = "two numbers, at least 0, or as NAME=2:40,others=0.3:20"
            raise InputError(f"{option('guidance_interval')} {value}: must be {form}")
        for name, (low, high) in found.items():
            if low > high:
                place = f"{low:g} {high:g}" if len(found) == 1 else f"{name}={low:g}:{high:g}"
                raise InputError(f"{option('guidance_interval')} {place}: the first must not be above the second")
        others = found.pop(OTHERS)
        return cls(others, tuple(found.items()))

    def __str__(self) -> str:
        """Write what `read` accepts."""
        parts = [f"{name}={low:g}:{high:g}" for name, (low, high) in (*self.groups, (OTHERS, self.others))]
        return ",".join(parts) if self.groups else parts[0].removeprefix(f"{OTHERS}=")

    @property
    def words(self) -> str:
        """Say at which σ what is guided."""
        named = [f"σ from {low:g} to {high:g} for {name}, " for name, (low, high) in self.groups]
        low, high = self.others
        return "".join([*named, f"σ from {low:g} to {high:g}{' for others' if named else ''}"])

    @property
    def plain(self) -> Interval | str:
        """Return two numbers, or the text of groups: plain data for files, which `read` accepts."""
        return str(self) if self.groups else self.others


def check_names(weights: Weights, intervals: Intervals, parents: Sequence[str]) -> None:
    """Check that groups are of parents of the image.

    Raises:
        InputError: a weight or an interval names something else.
    """
    named = {"guidance": weights.named, "guidance_interval": [name for name, _ in intervals.groups]}
    known = {"guidance": (*parents, DO, OTHERS), "guidance_interval": (*parents, OTHERS)}
    for setting, names in named.items():
        for name in (name for name in names if name not in parents):
            words = f"not a parent of the image; known: {', '.join(known[setting])}"
            raise InputError(f"{option(setting)} {name}: {words}")


def guided(
    eps: ConditionalEps,
    condition: Tensor,
    null: Tensor | Callable[[Tensor], Tensor],
    weight: float | Sequence[Group] = 1.0,
    level: Callable[[Tensor], float] = lambda t: 0.0,
) -> EpsFn:
    """Bind a condition and a guidance weight to a noise predictor.

    ``ε_ω(x, t) = ε(x, t, ∅) + ω·(ε(x, t, c) − ε(x, t, ∅))`` (paper, eq. 16), in one pass over a doubled batch. With
    groups of entries of c, from that of the smallest weight at t to that of the largest,

        ``ε_ω = ε(c_0) + Σ_i ω_i·(ε(c_i) − ε(c_{i−1}))``,

    where c_i takes the entries of the first i groups from c, the others from ∅: each group is amplified given those of
    smaller weights. Groups of equal weight are merged, and terms that cancel are not evaluated: ω = 1 never evaluates
    the null token. Conditions are bound once for all timesteps of the same weights, unless the token changes with t.

    Args:
        eps: ``eps(c)(x, t)`` with c (B, D), x (B, C, H, W), t (B,).
        condition: c, shape (B, D).
        null: the token ∅, shape (D,) or (B, D); or a function that returns it for timesteps t (B,).
        weight: ω; 1 is conditional, 0 unconditional, more than 1 amplifies the condition; or groups with their weights.
        level: returns σ at timesteps t (B,), all equal, for the intervals of groups.
    """
    conditional = eps(condition)
    everything = torch.ones_like(condition[0], dtype=torch.bool)
    groups = [Group(everything, float(weight))] if isinstance(weight, float | int) else weight
    if all(group.weight == 1 for group in groups):
        return conditional

    def bind(token: Tensor, omegas: Sequence[float]) -> EpsFn:
        weighed = [(group.entries, omega) for group, omega in zip(groups, omegas)]
        stages, factors = _stages(condition, token.expand_as(condition), weighed)
        return _combine(eps(torch.cat(stages)), factors)

    bound: dict[tuple[float, ...], EpsFn] = {}

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        sigma = level(t)
        omegas = tuple(weight if low <= sigma <= high else 1.0 for _, weight, (low, high) in groups)
        if all(omega == 1 for omega in omegas):
            return conditional(x, t)
        if callable(null):
            return bind(null(t), omegas)(x, t)
        if omegas not in bound:
            bound[omegas] = bind(null, omegas)
        return bound[omegas](x, t)

    return eps_fn


def weigh(
    weights: Weights,
    intervals: Intervals,
    widths: Mapping[str, int],
    intervened: Mapping[str, Tensor],
    condition: Tensor,
) -> list[Group]:
    """Return the entries of conditions with their ω and interval; variables that do not cause the image have none.

    A variable that is emphasised only because it is intervened on is emphasised where the intervention changes it.

    Args:
        weights: ω of every group.
        intervals: its noise levels.
        widths: how many entries the code and each parent take, in order; D in all.
        intervened: the variables that an intervention sets, each with where it changes them, bool (B,) or ().
        condition: shape (B, D).
    """
    always, changing = dict(weights.resolve([]).groups), dict(weights.resolve(intervened).groups)
    bounds = dict(intervals.groups)
    groups: list[Group] = []
    end = 0
    for name, width in ((name, width) for name, width in widths.items() if width):
        start, end = end, end + width
        entries = condition.new_zeros(condition.shape[1], dtype=torch.bool)
        entries[start:end] = True
        interval = bounds.get(name, intervals.others)
        usual, emphasised = (omegas.get(name, weights.others) for omegas in (always, changing))
        if usual == emphasised:
            groups.append(Group(entries, usual, interval))
        else:
            changed = intervened[name].reshape(-1, 1)
            groups += [Group(entries & changed, emphasised, interval), Group(entries & ~changed, usual, interval)]
    return groups


def _stages(
    condition: Tensor, null: Tensor, groups: Sequence[tuple[Tensor, float]]
) -> tuple[list[Tensor], list[float]]:
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


def _combine(staged: EpsFn, factors: Sequence[float]) -> EpsFn:
    """Add the steps between predictions of stages, which come from one pass, times their ω."""
    n = len(factors) + 1

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        predictions = staged(x.repeat(n, 1, 1, 1), t.repeat(n)).chunk(n)
        result = predictions[0]
        for before, after, w in zip(predictions, predictions[1:], factors):
            result = result + w * (after - before)
        return result

    return eps_fn


def shifted(eps_fn: EpsFn, shift: Callable[[Tensor], Tensor]) -> EpsFn:
    """Add a noise that depends on the timestep alone: ``ε(x, t) + shift(t)``."""
    return lambda x, t: eps_fn(x, t) + shift(t)


def _is_target(name: str) -> bool:
    """Tell whether a group stands for what is intervened on."""
    return name.partition(".")[0] == DO


def _read_groups(text: str, read: Callable[[str], Value]) -> dict[str, Value]:
    """Read a value of all, or ``NAME=VALUE,…``; empty where the text is neither, or a name comes twice."""
    try:
        parts = (part.split("=") for part in (text if "=" in text else f"{OTHERS}={text}").split(","))
        pairs = [(name.strip(), read(value)) for name, value in parts]
    except ValueError:
        return {}
    groups = dict(pairs)
    return groups if len(groups) == len(pairs) else {}


def _read_interval(text: str) -> Interval:
    """Read ``LOW:HIGH``; raises ``ValueError`` where it is none."""
    low, high = map(float, text.split(":"))
    return low, high
