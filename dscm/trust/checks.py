"""The checks of answers: support, typicality, composition, effectiveness, side effects, uncertainty and identity."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from dscm.causal.scm import Effect
from dscm.causal.support import RARE, Support
from dscm.causal.variables import write_number
from dscm.trust.ranks import ALARM, how_usual
from dscm.trust.reference import Gauge, Reference

OFF, UNLIKE, MISSED, MOVED = "off the support", "unlike the training data", "missed its target", "side effect"
WEIGHTS = {"edges": 1.0, "reading": 0.3, "support": 0.2}  # of doubt, chosen on validation digits
TINY = 1e-4  # rank or distance below which differences mean nothing
MARKS = (OFF, UNLIKE, MISSED, MOVED)  # why an answer is doubtful, in the order in which they are told


@dataclass(frozen=True, eq=False)
class Origin:
    """The checks of N images that are the same under every query.

    Args:
        noise: share of the validation images that are, or whose noise is, at least as unusual, (N,); None where nothing
            is known.
        odd: of each image, which number of it is odd.
        composition: L1 to the image under the null intervention, guided as the query is, (N,); None if it would cost a
            prediction of its own.
        composition_rank: share of the validation images with at least as large a one, (N,).
    """

    noise: Tensor | None = None
    odd: Sequence[str] = ()
    composition: Tensor | None = None
    composition_rank: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Readings:
    """What is read off N images before and after one query, in raw units.

    Args:
        before: the reading of the observations, by attribute, (N,).
        after: that of the counterfactuals.
        several: that of each particle, by attribute, (M, N); empty of one.
    """

    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    several: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Change:
    """How far N counterfactuals are from their compositions.

    Args:
        identity: L1, (N,).
        edges: the total variation of the difference, as `dscm.data.scaling.edges`, (N,).
        suits: whether the reference's numbers about images hold under the settings in use.
    """

    identity: Tensor
    edges: Tensor
    suits: bool


@dataclass(frozen=True, eq=False)
class Checks:
    """How far to trust the answers to one query about N images.

    Every rank is a share of validation images, or of the training data, that are at least as unusual: small is odd.

    Args:
        support: rank of the counterfactual parents, jointly, (N,); None where the checkpoint does not know.
        odd: of each image, the parent that is least usual given the others, and why.
        origin: the checks of the images themselves.
        after: what is read off the counterfactuals, by attribute, (N,), in raw units.
        errors: by attribute, how far that is from the value it should have, in units of the gauge's tolerance, (N,);
            numbers alone.
        missed: of each image, the attributes that should have changed and are read as something else.
        moved: of each image, those that should have stayed and did not.
        spread: by attribute, of several particles the standard deviation of its readings in raw units, or of a class
            the share that differs from the most frequent one, (N,).
        identity: L1 of the counterfactual to the composition, (N,).
        identity_rank: rank among the same query about validation images; None where it is not known.
        edges: total variation of what the query changed in the composition, (N,).
    """

    support: Tensor | None
    odd: Sequence[str]
    origin: Origin
    after: Mapping[str, Tensor]
    errors: Mapping[str, Tensor]
    missed: Sequence[Sequence[str]]
    moved: Sequence[Sequence[str]]
    spread: Mapping[str, Tensor]
    identity: Tensor
    identity_rank: Tensor | None
    edges: Tensor

    def __len__(self) -> int:
        """Count the answers."""
        return len(self.identity)

    @classmethod
    def join(cls, parts: "Sequence[Checks]") -> "Checks":
        """Join the checks of several batches of one query."""
        return _join(parts)

    @property
    def marks(self) -> list[list[str]]:
        """List for each image the `MARKS` that apply; none where nothing speaks against the answer."""
        off = _below(self.support, RARE, len(self))
        unlike = _below(self.origin.noise, ALARM, len(self))
        flags = zip(off, unlike, map(bool, self.missed), map(bool, self.moved))
        return [[mark for mark, raised in zip(MARKS, row) if raised] for row in flags]

    @property
    def doubtful(self) -> Tensor:
        """Tell which answers have a mark, bool (N,)."""
        return torch.tensor([bool(marks) for marks in self.marks], dtype=torch.bool)

    @property
    def measures(self) -> dict[str, Tensor]:
        """Return each check of which something is known as a number that grows with doubt, float64 (N,), by name.

        A rank becomes ``−log rank``, an L1 or a total variation its logarithm, the readings ``log(1 + e)`` of the
        largest error in units of its tolerance, and wrong answers the number of attributes that were missed or moved.
        """
        ranks = {"support": self.support, "noise": self.origin.noise}
        distances = {"identity": self.identity, "edges": self.edges}
        found = {name: -_log(rank) for name, rank in ranks.items() if rank is not None}
        if self.origin.composition is not None:
            distances["composition"] = self.origin.composition
        found |= {name: _log(distance) for name, distance in distances.items()}
        if self.errors:
            found["reading"] = torch.stack([e.double().cpu() for e in self.errors.values()]).amax(dim=0).log1p()
        wrong = [float(len(missed) + len(moved)) for missed, moved in zip(self.missed, self.moved)]
        return found | {"wrong": torch.tensor(wrong, dtype=torch.float64)}

    @property
    def doubt(self) -> Tensor:
        """Return a number that orders answers from the least to the most doubtful, (N,): `WEIGHTS` · measures."""
        known = self.measures
        return sum((weight * known[name] for name, weight in WEIGHTS.items() if name in known), torch.zeros(len(self)))


def _log(x: Tensor) -> Tensor:
    """Return the logarithm of a rank or of a distance, float64; of less than `TINY` that of `TINY`."""
    return x.detach().double().cpu().clamp_min(TINY).log()


def check_origin(
    reference: Reference | None,
    suits: tuple[bool, bool],
    described: Mapping[str, Tensor],
    composition: Tensor | None,
    n: int,
) -> Origin:
    """Check images whatever is asked about them.

    Args:
        reference: of the checkpoint.
        suits: as `Reference.suits` says of the settings in use.
        described: they and their noise, as `describe` has it.
        composition: as in `Origin`.
        n: number of images.
    """
    noise, odd, rank = None, [""] * n, None
    if reference and suits[0] and reference.noise and reference.noise.knows(described):
        noise, odd = reference.noise.how_usual(described), reference.noise.odd(described)
    if reference and suits[1] and reference.composition is not None and composition is not None:
        rank = how_usual(reference.composition, composition)
    return Origin(noise, odd, composition, rank)


def check_answers(
    support: Support | None,
    reference: Reference | None,
    gauges: Mapping[str, Gauge],
    origin: Origin,
    query: tuple[Collection[str], Effect],
    parents: Sequence[str],
    obs: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    readings: Readings,
    change: Change,
) -> Checks:
    """Check the answers to one query.

    An attribute is a target if the query sets it, or makes it another; it is met if the reading agrees with its
    counterfactual value, within the tolerance of the gauge. The others should stay: their reading must agree with that
    of the observation, so that a reading that was wrong before is no side effect.

    Args:
        support: of the checkpoint.
        reference: likewise.
        gauges: by attribute; one without a gauge is not judged.
        origin: from `check_origin`.
        query: the variables that it sets, and the paths along which it acts.
        parents: those of the image.
        obs, values: every variable as observed and under the query, (N,).
        readings: what is read off the images.
        change: of the images.
    """
    (names, effect), n = query, len(change.identity)
    missed, moved = [list[str]() for _ in range(n)], [list[str]() for _ in range(n)]
    errors = {}
    for name in (name for name in parents if name in gauges):
        gauge, after = gauges[name], readings.after[name]
        target = (values[name] != obs[name]) | (name in names and effect != "indirect")
        wrong = torch.where(target, ~gauge.agree(after, values[name]), ~gauge.agree(after, readings.before[name]))
        for i in wrong.nonzero().flatten().tolist():
            (missed if target[i] else moved)[i].append(name)
        if (units := gauge.in_units(after, values[name])) is not None:
            errors[name] = units
    rank = support.quantile(values) if support else None
    odd = explain_support(support, values) if support else [""] * n
    among = reference.identity if reference and change.suits and effect == "total" else {}
    usual = among.get(",".join(sorted(names)))
    identity_rank = None if usual is None else how_usual(usual, change.identity)
    spread = {name: _spread(gauges[name], x) for name, x in readings.several.items() if name in gauges}
    read = (readings.after, errors, missed, moved, spread)
    return Checks(rank, odd, origin, *read, change.identity, identity_rank, change.edges)


def _join(parts: Sequence[Any]) -> Any:
    """Join values of several batches: tensors and lists one after the other, and what holds them, part by part."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([*parts])
    if isinstance(first, Mapping):
        return {name: _join([part[name] for part in parts]) for name in first}
    if isinstance(first, Checks | Origin):
        names = [field.name for field in fields(first)]
        return type(first)(**{name: _join([getattr(part, name) for part in parts]) for name in names})
    return None if first is None else [entry for part in parts for entry in part]


def explain_support(support: Support, values: Mapping[str, Tensor]) -> list[str]:
    """Say of each of N values which parent is odd, and beyond which end of the training data, if it is."""
    outside, known = support.outside(values), {variable.name: variable for variable in support.variables}
    words = []
    for i, name in enumerate(support.odd(values)):
        if not (outside[name][i] and known[name].real):
            words.append(f"{name} given the others")
            continue
        low, high = support.range(name)
        above = values[name][i].item() > high
        end = write_number(float(f"{(high if above else low):.3g}"))
        words.append(f"{name} {'above' if above else 'below'} {end} {known[name].unit}".rstrip())
    return words


def _spread(gauge: Gauge, readings: Tensor) -> Tensor:
    """Return the spread of the readings of particles, (M, N), as in `Checks`."""
    if gauge.variable.discrete:
        return 1 - (readings == readings.mode(dim=0).values).float().mean(dim=0)
    if gauge.variable.kind == "circular":
        turned = torch.exp(2j * torch.pi * readings.double()).mean(dim=0).abs().clamp(1e-12, 1)
        return (-2 * turned.log()).sqrt().float() / (2 * torch.pi)
    return readings.float().std(dim=0)


def _below(rank: Tensor | None, limit: float, n: int) -> list[bool]:
    """Tell which ranks are below a limit; none of an unknown one."""
    return [False] * n if rank is None else (rank < limit).tolist()
