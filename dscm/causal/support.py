"""What training data said of the parents: the range of each, and how usual a combination of their values is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dscm.causal.kernels import candidates, log_kernel, usual_bandwidth
from dscm.causal.variables import Variable

ROWS = 2048  # of the training data at most, that are kept to compare with
TRIED = 1024  # of these, on which bandwidths are chosen
ROUNDS = 2  # over all variables, in the choice of bandwidths
TRIMMED = 0.05  # of the rows, the least usual ones, which do not count in that choice
RARE = 0.01  # quantile below which values are called rare
LEVELS = (0.0, 0.005, 0.1587, 0.5, 0.8413, 0.995, 1.0)  # of the quantiles kept of each number
CENTRAL = 0.99  # share of the values between the second and the last but one of them
TIE = 1e-9  # of log densities that differ by rounding
CHUNK = 2**23  # numbers in a table of kernels
WIDEST = 6e4  # standardised value, within the range of half precision


@dataclass(frozen=True, eq=False)
class Support:
    """Tell how usual values are among training data, jointly, each given the others, and each by itself.

    Values are compared by their density ``f(x) = Σ_i w_i Π_v K_v(x_v, x_iv)`` over rows of the training data, with a
    kernel for each kind of variable and bandwidths of the greatest likelihood, each row left out in turn. The quantile
    of x is the share of the training data whose own density, without itself, is no higher: 1 minus the coverage of the
    smallest region that holds x. It is uniform over data like the training data, and 0 off their support.

    Args:
        variables: V of them, in order.
        rows: distinct rows of the training data in the form of `encode`, (M, V).
        counts: how often each of them occurs, int64 (M,).
        bandwidths: of each variable's kernel.
        marginals: by variable, the share of each class, or the quantiles `LEVELS` of a number; those of a circular one
            are counted from the middle of the widest gap in its values.
        n: number of training images.

    Source: Li and Racine 2003, Nonparametric estimation of distributions with categorical and continuous data; Hyndman
    1996, Computing and graphing highest density regions.
    """

    variables: tuple[Variable, ...]
    rows: Tensor
    counts: Tensor
    bandwidths: tuple[float, ...]
    marginals: Mapping[str, Tensor]
    n: int

    @classmethod
    def fit(cls, variables: Iterable[Variable], values: Mapping[str, Tensor], generator: torch.Generator) -> "Support":
        """Describe training data.

        Args:
            variables: at least one.
            values: by name, each (N,), in raw units; N is at least 1.
            generator: on the CPU, draws the rows that are kept where there are more than `ROWS` different ones.
        """
        chosen = tuple(variables)
        columns = {v.name: values[v.name].detach().cpu() for v in chosen}
        marginals = {v.name: summarise(v, columns[v.name]) for v in chosen}
        whole = encode(chosen, columns, marginals)
        rows, counts = whole.unique(dim=0, return_counts=True)
        if len(rows) > ROWS:
            drawn = whole[torch.randperm(len(whole), generator=generator)[:ROWS]]
            rows, counts = drawn.unique(dim=0, return_counts=True)
        some = torch.randperm(len(rows), generator=generator)[:TRIED]
        bandwidths = choose_bandwidths(chosen, rows[some], counts[some])
        return cls(chosen, rows, counts, bandwidths, marginals, len(whole))

    def state(self) -> dict[str, Any]:
        """Return plain data for a checkpoint, rows in half precision, which they are rounded to from the start."""
        return {
            "names": [variable.name for variable in self.variables],
            "rows": self.rows.half(),
            "counts": self.counts.int(),
            "bandwidths": list(self.bandwidths),
            "marginals": dict(self.marginals),
            "n": self.n,
        }

    @classmethod
    def from_state(cls, variables: Iterable[Variable], state: Mapping[str, Any]) -> "Support":
        """Restore from plain data.

        Args:
            variables: those of the graph.
            state: what `state` returned.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is damaged, or of other variables.
        """
        known = {variable.name: variable for variable in variables}
        chosen = tuple(known[name] for name in state["names"])
        rows, counts = state["rows"].float(), state["counts"].long()
        marginals = {v.name: state["marginals"][v.name].float() for v in chosen}
        sizes = [(v.classes or 2) if v.discrete else len(LEVELS) for v in chosen]
        finite = all(table.isfinite().all() for table in (rows, *marginals.values()))
        shapes = [*marginals.values()], [(size,) for size in sizes]
        alike = rows.shape == (len(counts), len(chosen)) and all(x.shape == shape for x, shape in zip(*shapes))
        if not chosen or not len(counts) or not (counts > 0).all() or not finite or not alike:
            raise ValueError("the support is not readable")
        bandwidths = tuple(map(float, state["bandwidths"]))
        if len(bandwidths) != len(chosen) or not all(0 < h <= max(candidates(v)) for h, v in zip(bandwidths, chosen)):
            raise ValueError("the bandwidths are not readable")
        return cls(chosen, rows, counts, bandwidths, marginals, int(state["n"]))

    def quantile(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return how usual values are jointly, from 0 to 1.

        Args:
            values: by name, each (N,), in raw units; may hold other variables.

        Returns:
            The share of the training data that is no more usual, float32 (N,).
        """
        return self._rank(self._evaluate(values, each=False))[:, 0].to(values[self.variables[0].name].device)

    def each(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return how usual each variable's value is given the others', as `quantile` does, by name."""
        ranks = self._rank(self._evaluate(values, each=True)).to(values[self.variables[0].name].device)
        return {variable.name: ranks[:, 1 + i] for i, variable in enumerate(self.variables)}

    def odd(self, values: Mapping[str, Tensor]) -> list[str]:
        """Name for each of the N values the variable that is least usual given the others."""
        densities = self._evaluate(values, each=True)
        ranks = self._rank(densities)
        odd = [min(range(len(r)), key=lambda v: (r[v], d[v])) for r, d in zip(ranks[:, 1:].tolist(), densities[:, 1:])]
        return [self.variables[v].name for v in odd]

    def outside(self, values: Mapping[str, Tensor], share: float = 1.0) -> dict[str, Tensor]:
        """Tell of each variable by itself which values are outside those of the training data.

        Args:
            values: as in `quantile`.
            share: 1 for the whole range of the training data, or `CENTRAL` for the part between its quantiles .005 and
                .995. A class is outside if no more than 1 − ``share`` of the training data have it.

        Returns:
            bool (N,), by name.
        """
        edge = 0 if share == 1 else 1
        result = {}
        for variable in self.variables:
            value, marginal = values[variable.name], self.marginals[variable.name].to(values[variable.name].device)
            if variable.discrete:
                result[variable.name] = marginal[value.long()] <= 1 - share
            else:
                turned = unwrap(value.float(), marginal) if variable.kind == "circular" else value.float()
                result[variable.name] = (turned < marginal[edge]) | (turned > marginal[-1 - edge])
        return result

    def range(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a number in the training data."""
        return self.marginals[name][0].item(), self.marginals[name][-1].item()

    @cached_property
    def _joint(self) -> tuple[Tensor, Tensor]:
        """Return the rows' joint densities, as `_sort` does."""
        return self._sort(_densities(self, self.rows, each=False, leave_out=True))

    @cached_property
    def _each(self) -> tuple[Tensor, Tensor]:
        """Return all of the rows' densities, as `_sort` does."""
        return self._sort(_densities(self, self.rows, each=True, leave_out=True))

    def _sort(self, densities: Tensor) -> tuple[Tensor, Tensor]:
        """Sort the densities of the rows, (M, D), and add up the share of the data to each; both (D, M)."""
        ordered, order = densities.T.contiguous().sort(dim=1)
        return ordered, self.counts[order].double().cumsum(dim=1) / self.counts.sum()

    def _evaluate(self, values: Mapping[str, Tensor], each: bool) -> Tensor:
        """Return the log densities of values in raw units, as `_densities`."""
        columns = {variable.name: values[variable.name].detach().cpu() for variable in self.variables}
        return _densities(self, encode(self.variables, columns, self.marginals), each)

    def _rank(self, densities: Tensor) -> Tensor:
        """Return the share of the training data whose log density is no higher, float32, of the same shape."""
        own, shares = self._joint if densities.shape[1] == 1 else self._each
        below = torch.searchsorted(own, densities.T.contiguous() + TIE, right=True)
        padded = torch.cat([torch.zeros(len(shares), 1, dtype=shares.dtype), shares], dim=1)
        return padded.gather(1, below).T.float()


def encode(variables: Sequence[Variable], values: Mapping[str, Tensor], marginals: Mapping[str, Tensor]) -> Tensor:
    """Bring values to the form in which kernels compare them, and in which a checkpoint holds them.

    A number becomes its distance to the median in standard deviations, each side of the median with its own, read from
    the quantiles of the training data, so that skewed values are resolved on both sides. A circular variable stays a
    share of its period, and a class its number.

    Args:
        variables: V of them.
        values: by name, each (N,), in raw units.
        marginals: as in `Support`.

    Returns:
        float32 (N, V), rounded to half precision.
    """
    columns = []
    for variable in variables:
        value = values[variable.name].double()
        if variable.kind == "circular":
            value = value % 1
        elif not variable.discrete:
            low, below, median, above, high = marginals[variable.name].double()[[0, 2, 3, 4, 6]]
            usual = (high - low) / 4 if high > low else torch.ones(())  # where half of the values are equal
            sides = [side if side > 0 else usual for side in (median - below, above - median)]
            value = (value - median) / torch.where(value < median, *sides)
        columns.append(value.clamp(-WIDEST, WIDEST).half().float())
    return torch.stack(columns, dim=1)


def summarise(variable: Variable, values: Tensor) -> Tensor:
    """Summarise the values (N,) of one variable in training data, as `Support` keeps them."""
    if variable.discrete:
        return torch.bincount(values.long(), minlength=variable.classes or 2).float() / len(values)
    ordered = values.double().sort().values
    if variable.kind == "circular":
        ordered = (ordered % 1).sort().values
        gaps = torch.cat([ordered[1:], ordered[:1] + 1]) - ordered
        first = int(gaps.argmax()) + 1
        ordered = torch.cat([ordered[first:], ordered[:first] + 1])
    at = torch.tensor(LEVELS, dtype=torch.float64) * (len(ordered) - 1)
    low, part = at.floor().long(), at.frac()
    return (ordered[low] + part * (ordered[at.ceil().long()] - ordered[low])).float()


def unwrap(values: Tensor, marginal: Tensor) -> Tensor:
    """Count values of a circular variable, (N,), from the middle of the widest gap in the training data."""
    cut = (marginal[0] + marginal[-1] - 1) / 2
    return cut + (values - cut) % 1


def choose_bandwidths(variables: Sequence[Variable], rows: Tensor, counts: Tensor) -> tuple[float, ...]:
    """Choose the bandwidth of each variable in turn by the likelihood of the rows, each left out.

    Its mean is over all rows but the `TRIMMED` least usual ones, since a Gaussian kernel would else be as wide as the
    gaps between outliers.

    Args:
        variables: V of them.
        rows, counts: as in `Support`.
    """
    chosen = [usual_bandwidth(variable, len(rows)) for variable in variables]
    if len(rows) < 2:
        return tuple(chosen)
    weights = _left_out(counts)
    parts = [_compare(v, rows, i, chosen[i]) for i, v in enumerate(variables)]
    for _ in range(ROUNDS):
        for i, variable in enumerate(variables):
            others = sum((part for j, part in enumerate(parts) if j != i), weights)

            def likelihood(h: float, i: int = i, variable: Variable = variable, others: Tensor = others) -> float:
                ordered, order = (others + _compare(variable, rows, i, h)).logsumexp(dim=1).sort()
                mass = counts[order].float()
                mass[mass.cumsum(dim=0) <= TRIMMED * mass.sum()] = 0
                return ((mass * ordered).sum() / mass.sum()).item()

            chosen[i] = max(candidates(variable), key=likelihood)
            parts[i] = _compare(variable, rows, i, chosen[i])
    return tuple(chosen)


def _compare(variable: Variable, rows: Tensor, column: int, bandwidth: float) -> Tensor:
    """Return the log kernel between all rows, (M, M)."""
    return log_kernel(variable, rows[:, column], rows[:, column], bandwidth)


def _left_out(counts: Tensor) -> Tensor:
    """Return log weights, (M, M), of the rows in the density of each row, from which one row like it is left out."""
    others = counts.float().expand(len(counts), -1) - torch.eye(len(counts))
    return (others / (counts.sum() - 1).clamp(min=1)).log()


def _densities(support: Support, points: Tensor, each: bool, leave_out: bool = False) -> Tensor:
    """Return log densities of points, float64: the joint one, (N, 1), and that of each variable, (N, 1 + V).

    Args:
        support: the training data.
        points: in the form of `encode`, (N, V).
        each: whether to return that of each variable given the others, too.
        leave_out: the points are the rows, and each is left out of its own density.
    """
    rows, counts = support.rows, support.counts
    weights = _left_out(counts) if leave_out else (counts.float() / counts.sum()).log().expand(len(points), -1)
    results = []
    for part in torch.arange(len(points)).split(max(1, CHUNK // (len(rows) * len(support.variables)))):
        kernels = [
            log_kernel(v, points[part, i].double(), rows[:, i].double(), h)
            for i, (v, h) in enumerate(zip(support.variables, support.bandwidths))
        ]
        total = sum(kernels, weights[part].double())
        joint = total.logsumexp(dim=1)
        conditional = [joint - (total - kernel).logsumexp(dim=1) for kernel in kernels] if each else []
        results.append(torch.stack([joint, *conditional], dim=1))
    return torch.cat(results)
