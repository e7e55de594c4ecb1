"""The contract of a causal mechanism, and mechanisms with known equations.

Attributes are tensors of shape (B,) in raw units. Noise is a tensor, or a NamedTuple of tensors whose first one has the
batch size, dtype and device of the value. Parents may have another dtype (a digit is int64); they are cast.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from dscm.causal.draws import Source, draw_classes, draw_exponential, draw_normal, draw_uniform

NoiseT = TypeVar("NoiseT")
Noise = Any  # of some mechanism: a Tensor, or a NamedTuple of them
Parents = Mapping[str, Tensor]
Intervened = Mapping[str, Tensor]  # variables that are set, each with where in the batch that changes it, bool (B,)
WIDEST = 0.01  # of a range, the margin at either end


class Mechanism(nn.Module, Generic[NoiseT]):
    """Generate a variable from its parents and its exogenous noise, and abduct that noise.

    ``value = predict(noise, parents)`` and ``noise = abduct(value, parents)``, so ``predict(abduct(v, pa), pa) = v``.

    Subclasses set ``event_dims``, the number of dimensions of one value: 0 for an attribute, 3 for an image; and
    ``dtype`` where that of the value differs from that of its noise.

    Where the value leaves its noise undetermined, as a class does, `abduct` samples the posterior with the generator;
    without one it takes the posterior's median.

    Source: Pawlowski, Castro and Glocker 2020, "Deep structural causal models for tractable counterfactual inference".
    """

    event_dims: int = 0
    dtype: torch.dtype | None = None

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> NoiseT:
        """Infer the noise that generated a value.

        Args:
            value: shape (B, …).
            parents: each (B,).
            generator: source of the posterior's samples; None takes the median.
        """
        raise NotImplementedError

    def predict(self, noise: NoiseT, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Generate the value, shape (B, …).

        Args:
            noise: the noise of B values.
            parents: each (B,).
            intervened: the variables that an intervention sets, each with where in the batch it changes them, bool (B,)
                or (). Only guidance that emphasises the intervention, and corrections of it, depend on that.
        """
        raise NotImplementedError

    def sample_noise(self, n: int, generator: Source) -> NoiseT:
        """Draw the noise of ``n`` values on the device of the generator."""
        raise NotImplementedError

    def drawing(self) -> "Mechanism[NoiseT]":
        """Return this mechanism with the settings that suit drawn noise: as it is, if they are the same."""
        return self


class Root(Mechanism[Tensor]):
    """Base of variables without parents: the noise is the value itself. Subclasses define the prior."""

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        """Return a copy of the value, which does not change with it."""
        return value.clone()

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Return a copy of the noise."""
        return noise.clone()

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density (or log probability) of values, shape (B,); minus infinity off the support."""
        raise NotImplementedError


class CategoricalRoot(Root):
    """Sample a class uniformly.

    Args:
        classes: how many; a value is an int64 from 0 to ``classes`` − 1.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw classes, int64, shape (n,)."""
        return draw_classes(n, self.classes, generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute ``−log(classes)`` on the support, in the default dtype."""
        supported = (value >= 0) & (value < self.classes)
        return torch.where(supported, -math.log(self.classes), -math.inf)


class UniformRoot(Root):
    """Sample uniformly from an interval.

    Args:
        low, high: its ends, in the unit of the variable; the lower first.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw values, shape (n,), in the default dtype."""
        return self.low + (self.high - self.low) * draw_uniform((n,), generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute ``-log(high - low)`` on the support, in the dtype of the value."""
        density = torch.full_like(value, -math.log(self.high - self.low))
        return torch.where((value >= self.low) & (value <= self.high), density, -math.inf)


class GammaRoot(Root):
    """Sample ``shift + Gamma(shape, rate)`` for an integer shape, as a sum of ``shape`` exponentials.

    Args:
        shift: in the unit of the variable.
        shape: at least 1.
        rate: more than 0, in one over that unit.
    """

    def __init__(self, shift: float, shape: int, rate: float) -> None:
        super().__init__()
        self.shift, self.shape, self.rate = shift, shape, rate

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw values, shape (n,), in the default dtype."""
        waits = draw_exponential((n, self.shape), generator)
        return self.shift + waits.sum(dim=1) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute ``k log r + (k − 1) log y − r y − log Γ(k)`` at ``y = value − shift``, in the dtype of the value."""
        y = value - self.shift
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        density = constant + torch.xlogy(torch.full_like(y, self.shape - 1), y) - self.rate * y
        return torch.where(y >= 0, density, -math.inf)


class LinearGaussian(Mechanism[Tensor]):
    """Add Gaussian noise to a weighted sum: ``value = bias + Σ_k weights[k]·pa_k + scale·ε``, ``ε ~ N(0, 1)``.

    Args:
        weights: by parent.
        bias, scale: in the unit of the value; scale is not zero.

    >>> LinearGaussian({"a": 2.0}, bias=1.0, scale=0.5).abduct(torch.tensor([8.0]), {"a": torch.tensor([3])})
    tensor([2.])
    """

    def __init__(self, weights: Mapping[str, float], bias: float, scale: float) -> None:
        super().__init__()
        self.weights, self.bias, self.scale = dict(weights), bias, scale

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        """Compute ``ε = (value − bias − Σ_k weights[k]·pa_k) / scale``, shape (B,)."""
        return (value - _linear(self.weights, self.bias, parents, like=value)) / self.scale

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Compute the value, shape (B,), from ε."""
        return _linear(self.weights, self.bias, parents, like=noise) + self.scale * noise

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw standard normal ε, shape (n,), in the default dtype."""
        return draw_normal((n,), generator)


class AdditiveNoise(Mechanism[Tensor]):
    """Add noise to a known function of the parents: ``value = f(pa) + n``, ``n ~ N(0, scale²)``.

    The noise n is in the unit of the value, so that the scale may be 0: the equation is then deterministic, n of a
    value that obeys it is 0, and one that does not, as after an intervention or by an error of measurement, keeps its
    distance to the equation under other interventions.

    Args:
        function: maps the parents' values, each (B,) and in the dtype of the value, to (B,).
        parents: their names, in the order of the function's arguments.
        scale: standard deviation of the noise, in the unit of the value; at least 0.
    """

    def __init__(self, function: Callable[..., Tensor], parents: Sequence[str], scale: float = 0.0) -> None:
        super().__init__()
        self.function, self.parents, self.scale = function, tuple(parents), scale

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        """Compute ``n = value − f(pa)``, shape (B,)."""
        return value - self._expect(parents, like=value)

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Compute ``f(pa) + n``, shape (B,)."""
        return self._expect(parents, like=noise) + noise

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw n, shape (n,), in the default dtype."""
        return self.scale * draw_normal((n,), generator)

    def _expect(self, parents: Parents, like: Tensor) -> Tensor:
        """Compute ``f(pa)`` in the dtype and on the device of ``like``."""
        return self.function(*(parents[name].to(like) for name in self.parents))


class SigmoidNoise(NamedTuple):
    """Noise of a `ScaledSigmoid`: ``eps`` and, in the unit of the value, ``offset``; both of shape (B,)."""

    eps: Tensor
    offset: Tensor


class ScaledSigmoid(Mechanism[SigmoidNoise]):
    """Squash a weighted sum: ``value = low + (high − low)·σ(bias + Σ_k weights[k]·pa_k + scale·ε) + offset``.

    A measured value may lie on or beyond an end of (low, high), as saturated ones do, where ε would not be finite.
    There ε is abducted from the value ``margin`` inside that end, and ``offset`` is the remainder; strictly inside, the
    offset is zero. Observations are never clipped: `predict` adds the offset back, so composition is exact for every
    value. Reversibility is exact where the offset is zero both ways.

    Args:
        low, high: in the unit of the value.
        margin: half the step of the value's measurement; at most `WIDEST` of the range counts.
        weights: by parent, in logits.
        bias, scale: in logits; scale is not zero.
    """

    def __init__(
        self, low: float, high: float, weights: Mapping[str, float], bias: float, scale: float, margin: float = 0.5
    ) -> None:
        super().__init__()
        self.low, self.high, self.margin = low, high, min(margin, WIDEST * (high - low))
        self.weights, self.bias, self.scale = dict(weights), bias, scale

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> SigmoidNoise:
        """Compute ``ε = (logit((v − low)/(high − low)) − bias − Σ_k weights[k]·pa_k) / scale`` and the offset."""
        ordinary = (self.low < value) & (value < self.high)
        inside = torch.where(ordinary, value, value.clamp(self.low + self.margin, self.high - self.margin))
        logit = (inside - self.low).log() - (self.high - inside).log()
        eps = (logit - _linear(self.weights, self.bias, parents, like=value)) / self.scale
        return SigmoidNoise(eps, offset=value - inside)

    def predict(self, noise: SigmoidNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Compute the value, shape (B,), from ε and the offset."""
        logit = _linear(self.weights, self.bias, parents, like=noise.eps) + self.scale * noise.eps
        return self.low + (self.high - self.low) * logit.sigmoid() + noise.offset

    def sample_noise(self, n: int, generator: Source) -> SigmoidNoise:
        """Draw standard normal ε, shape (n,), in the default dtype, with offset zero."""
        eps = draw_normal((n,), generator)
        return SigmoidNoise(eps, offset=torch.zeros_like(eps))


def _linear(weights: Mapping[str, float], bias: float, parents: Parents, like: Tensor) -> Tensor:
    """Compute ``bias + Σ_k weights[k]·pa_k`` in the dtype and on the device of ``like``."""
    total = torch.zeros((), dtype=like.dtype, device=like.device)
    return bias + sum((weight * parents[name].to(like) for name, weight in weights.items()), total)
