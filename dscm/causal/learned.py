"""Mechanisms of attributes that are fitted to data, one class for each kind of variable; roots have no parents."""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.causal import splines
from dscm.causal.draws import Source, draw_normal, draw_uniform
from dscm.causal.encoding import ParentScaling, find_spread
from dscm.causal.mechanisms import Intervened, Mechanism, NoiseT, Parents
from dscm.causal.variables import Variable
from dscm.layers import mlp

MAX_LOGIT = 15.0  # clamp, so that no probability is 0 or 1 and every observation is possible
BINS = 8  # of a spline
BOUND = 4.0  # standard deviations from the mean beyond which a flow is affine
TIE = 1e-9  # least lead of the highest score, so that rounding makes no tie
MARGIN = 1e-4  # share of a domain at either end, where the noise would not be finite


class LearnedMechanism(Mechanism[NoiseT]):
    """Parametrise a variable's distribution by a small network f of its parents.

    Args:
        variable: the variable.
        parents: in order; empty for a root.
        outputs: number of outputs of f.
        hidden: width of f.
    """

    def __init__(self, variable: Variable, parents: Sequence[Variable], outputs: int, hidden: int) -> None:
        super().__init__()
        self.variable, self.scaling = variable, ParentScaling(parents)
        if parents:
            self.net = mlp(self.scaling.dim, hidden, outputs)
        else:
            self.constant = nn.Parameter(torch.zeros(outputs))

    def parameters_given(self, parents: Parents, n: int) -> Tensor:
        """Compute f, (n, outputs), of parents in raw units, each (n,)."""
        return self.net(self.scaling(parents)) if self.scaling.variables else self.constant.expand(n, -1)

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Fit what standardises parents and values to tensors of shape (N,)."""
        self.scaling.fit(data)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Compute the log probability, or log density in raw units, of values, shape (B,)."""
        raise NotImplementedError

    def rank(self, value: Tensor, parents: Parents) -> Tensor:
        """Evaluate the distribution function at the values, (B,); uniform on [0, 1] for a true model.

        Classes are ordered, and a class counts by half its probability.
        """
        raise NotImplementedError


class BinaryMechanism(LearnedMechanism[Tensor]):
    """Bernoulli by the inverse CDF: ``value = 1[u < σ(f(pa))]`` with ``u ~ U(0, 1)``.

    The posterior of u is uniform below ``p = σ(f(pa))`` where the value is 1, and above it where it is 0. Composition
    always returns the observed value; over samples of u a counterfactual changes it with the probability that the
    change of p implies, and no more often.

    Args:
        variable, parents, hidden: as in `LearnedMechanism`.
    """

    dtype = torch.int64

    def __init__(self, variable: Variable, parents: Sequence[Variable], hidden: int = 32) -> None:
        super().__init__(variable, parents, 1, hidden)

    def logits(self, parents: Parents, n: int) -> Tensor:
        """Compute f, (n,), of parents in raw units, each (n,)."""
        return self.parameters_given(parents, n).squeeze(1).clamp(-MAX_LOGIT, MAX_LOGIT)

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        """Draw u, (B,), float64, from its posterior given values 0 or 1, (B,), and parents."""
        p = self.logits(parents, len(value)).double().sigmoid()
        share = _uniform(p, generator)
        below = torch.minimum(share * p, torch.nextafter(p, torch.zeros_like(p)))  # rounding must not reach p
        return torch.where(value == 1, below, p + share * (1 - p))

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Return values 0 or 1, int64, shape (B,), from u and the parents."""
        return (noise < self.logits(parents, len(noise)).double().sigmoid()).long()

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw u uniformly, float64, shape (n,)."""
        return draw_uniform((n,), generator, torch.float64)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Compute the log probability of values 0 or 1, shape (B,)."""
        logits = self.logits(parents, len(value))
        return -F.binary_cross_entropy_with_logits(logits, value.to(logits.dtype), reduction="none")

    def rank(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the middle of each value's share; 0 lies first."""
        p = self.logits(parents, len(value)).sigmoid()
        return torch.where(value == 1, 1 - p / 2, (1 - p) / 2)


class CategoricalMechanism(LearnedMechanism[Tensor]):
    """Gumbel-max: ``value = argmax_k (f(pa)_k + g_k)``, each ``g_k ~ Gumbel(0, 1)``.

    The class then has the softmax distribution of f. Abduction samples the posterior of g, so composition always
    returns the observed class, and a counterfactual changes it only where another score overtakes.

    Args:
        variable, parents, hidden: as in `LearnedMechanism`.

    Source: Maddison and Tarlow 2017, and Oberst and Sontag 2019, "Counterfactual off-policy evaluation with Gumbel-max
    structural causal models".
    """

    dtype = torch.int64

    def __init__(self, variable: Variable, parents: Sequence[Variable], hidden: int = 32) -> None:
        super().__init__(variable, parents, variable.classes, hidden)

    def logits(self, parents: Parents, n: int) -> Tensor:
        """Compute log probabilities, (n, classes), given parents in raw units, each (n,)."""
        return self.parameters_given(parents, n).clamp(-MAX_LOGIT, MAX_LOGIT).log_softmax(dim=1)

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        """Draw g, (B, classes), float64, from its posterior given classes, int64 (B,), and parents.

        The highest score is Gumbel(0, 1), whichever class it belongs to; the others are Gumbel, cut off below it.
        """
        logits = self.logits(parents, len(value)).double()
        best = _gumbel(_uniform(logits[:, :1], generator))  # (B, 1)
        free = logits + _gumbel(_uniform(logits, generator))
        score = -torch.logaddexp(-best, -free)  # below ``best``
        score = torch.minimum(score, best - TIE)
        return score.scatter(1, value[:, None], best) - logits

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Return classes, int64, (B,), from g and the parents."""
        return (self.logits(parents, len(noise)).double() + noise).argmax(dim=1)

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw g, float64, shape (n, classes)."""
        return _gumbel(draw_uniform((n, self.variable.classes), generator, torch.float64))

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Compute the log probability of classes, int64, shape (B,)."""
        return self.logits(parents, len(value)).gather(1, value[:, None])[:, 0]

    def rank(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the middle of each class's share; the classes lie in order."""
        p = self.logits(parents, len(value)).exp()
        return (p.cumsum(dim=1) - p / 2).gather(1, value[:, None])[:, 0]


class FlowNoise(NamedTuple):
    """Noise of a `FlowMechanism`: standard normal ``eps``, and ``offset`` in raw units; both (B,).

    The offset is the part of the value that eps cannot express: rounding, and values at an end of the domain.
    """

    eps: Tensor
    offset: Tensor


class FlowMechanism(LearnedMechanism[FlowNoise]):
    """Conditional spline flow of normal noise: ``value = h⁻¹(m + s·F(eps; f(pa)))``.

    h is the logarithm for a positive variable, the logit for a bounded one and the identity otherwise; m and s
    standardise; F is an affine map of a rational-quadratic spline. Abduction inverts every part exactly.

    Args:
        variable, parents, hidden: as in `LearnedMechanism`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, variable: Variable, parents: Sequence[Variable], hidden: int = 32) -> None:
        super().__init__(variable, parents, 2 + splines.parameter_count(BINS), hidden)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Fit m and s, and what standardises the parents, to tensors of shape (N,)."""
        super().fit_scaling(data)
        line, _ = self._to_line(data[self.variable.name].to(self.mean))
        mean, std = find_spread(self.variable.name, line)
        self.mean.fill_(mean)
        self.std.fill_(std)

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> FlowNoise:
        """Invert the map at values in raw units, (B,)."""
        eps, _ = self._to_noise(value, parents)
        return FlowNoise(eps, value - self._from_noise(eps, parents))

    def predict(self, noise: FlowNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Return values in raw units, (B,), from noise and parents."""
        return self._from_noise(noise.eps, parents) + noise.offset

    def sample_noise(self, n: int, generator: Source) -> FlowNoise:
        """Draw eps from N(0, 1), shape (n,), with offset zero."""
        eps = draw_normal((n,), generator)
        return FlowNoise(eps, torch.zeros_like(eps))

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Compute the log density of values in raw units, (B,)."""
        eps, log_slope = self._to_noise(value, parents)
        return log_slope - (eps.square() + math.log(2 * math.pi)) / 2

    def rank(self, value: Tensor, parents: Parents) -> Tensor:
        """Return Φ(eps)."""
        return torch.special.ndtr(self._to_noise(value, parents)[0])

    def _to_noise(self, value: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return eps and ``log |d eps / d value|``, each (B,)."""
        shift, log_scale, spline = self._condition(parents, len(value))
        line, log_slope = self._to_line(value)
        bent = ((line - self.mean) / self.std - shift) * (-log_scale).exp()
        eps, bend = splines.forward(spline, bent)
        return eps, log_slope - self.std.log() - log_scale + bend

    def _from_noise(self, eps: Tensor, parents: Parents) -> Tensor:
        """Return values in raw units, (B,), from eps."""
        shift, log_scale, spline = self._condition(parents, len(eps))
        line = self.mean + self.std * (shift + log_scale.exp() * splines.inverse(spline, eps))
        low, high = self.variable.low, self.variable.high
        if self.variable.kind == "bounded":
            return low + (high - low) * line.sigmoid()
        return line.exp() if self.variable.kind == "positive" else line

    def _condition(self, parents: Parents, n: int) -> tuple[Tensor, Tensor, splines.Spline]:
        """Return shift and log scale, each (n,), and the spline, as the parents determine them."""
        parameters = self.parameters_given(parents, n)
        return parameters[:, 0], parameters[:, 1].clamp(-7, 7), splines.make_spline(parameters[:, 2:], BOUND)

    def _to_line(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return h of values in raw units, clamped `MARGIN` inside the domain, and the log of its slope, each (B,)."""
        low, high = self.variable.low, self.variable.high
        if self.variable.kind == "bounded":
            share = ((value - low) / (high - low)).clamp(MARGIN, 1 - MARGIN)
            return share.logit(), -(share * (1 - share)).log() - math.log(high - low)
        if self.variable.kind == "positive":
            log = value.clamp_min(MARGIN * 1e-4).log()
            return log, -log
        return value, torch.zeros_like(value)


MECHANISMS: Mapping[str, type[LearnedMechanism[Any]]] = {
    "binary": BinaryMechanism,
    "categorical": CategoricalMechanism,
    "continuous": FlowMechanism,
    "positive": FlowMechanism,
    "bounded": FlowMechanism,
}


class LearnedAttributes(nn.Module):
    """The mechanisms of a graph's attributes that are fitted to data.

    Args:
        variables: every attribute of the graph; those with ``learned`` get a mechanism.
        hidden: width of the networks.

    Raises:
        ValueError: there is no learned mechanism for the kind of a variable.
    """

    def __init__(self, variables: Sequence[Variable], hidden: int = 32) -> None:
        super().__init__()
        by_name = {variable.name: variable for variable in variables}
        self.mechanisms = nn.ModuleDict()
        for variable in variables:
            if variable.learned:
                if variable.kind not in MECHANISMS:
                    raise ValueError(f"no mechanism of kind {variable.kind} can be learned")
                parents = [by_name[name] for name in variable.parents]
                make = cast(Any, MECHANISMS[variable.kind])
                self.mechanisms[variable.name] = make(variable, parents, hidden)
        self.parents = {name: by_name[name].parents for name in self.mechanisms}

    def mechanism(self, name: str) -> LearnedMechanism[Any]:
        """Return the mechanism of a variable."""
        return cast(LearnedMechanism[Any], self.mechanisms[name])

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Fit what standardises parents and values to tensors of shape (N,)."""
        for name in self.mechanisms:
            self.mechanism(name).fit_scaling(data)

    def forward(self, value: Tensor, parents: Parents) -> dict[str, Tensor]:
        """Compute the negative log-likelihood of attributes.

        Args:
            value: images, which have no influence.
            parents: every attribute, (B,).

        Returns:
            Scalars in nats: the sum, ``loss``, and ``nll NAME`` of each variable.
        """
        terms: dict[str, Tensor] = {}
        for name in self.mechanisms:
            causes = {parent: parents[parent] for parent in self.parents[name]}
            terms[f"nll {name}"] = -self.mechanism(name).log_prob(parents[name], causes).mean()
        loss = reduce(torch.add, terms.values())
        return {"loss": loss} | {name: term.detach() for name, term in terms.items()}


def _uniform(like: Tensor, generator: Source | None) -> Tensor:
    """Sample U(0, 1) in the shape, dtype and device of ``like``; without a generator return the median."""
    if generator is None:
        return torch.full_like(like, 0.5)
    return draw_uniform(like.shape, generator, like.dtype)


def _gumbel(u: Tensor) -> Tensor:
    """Turn uniform samples into Gumbel(0, 1) samples."""
    tiny = torch.finfo(u.dtype).tiny
    return -(-u.clamp_min(tiny).log()).clamp_min(tiny).log()
