"""The contract of a causal mechanism, and the mechanisms of the attributes.

Attributes are tensors of shape (B,) in raw units. Noise is a tensor, or a NamedTuple of tensors whose first one has the
batch size, dtype and device of the value. Parents may have another dtype (a digit is int64): they are cast to it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

Noise = Tensor | tuple[Tensor, ...]


class Mechanism(nn.Module):
    """Say how a variable comes from its parents and its own exogenous noise, and find that noise again.

    `value = predict(noise, parents)` and `noise = abduct(value, parents)`; so `predict(abduct(v, pa), pa) = v`.

    A subclass sets `event_dims`, the number of dimensions of one value: 0 for an attribute, 3 for an image; and
    `dtype`, where that of the value is not that of its noise.

    Where the value leaves its noise open, as a class does, `abduct` draws it from its posterior with the `generator`;
    without one it takes the posterior's median.

    Source: Pawlowski, Castro & Glocker, "Deep Structural Causal Models for Tractable Counterfactual Inference", 2020.
    """

    event_dims: int = 0
    dtype: torch.dtype | None = None

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Noise:
        """Infer the noise that made `value`, shape (B, ...), under `parents`, each of shape (B,)."""
        raise NotImplementedError

    def predict(self, noise: Noise, parents: Mapping[str, Tensor]) -> Tensor:
        """Compute the value, shape (B, ...), from its `noise` and its `parents`, each of shape (B,)."""
        raise NotImplementedError

    def sample_noise(self, n: int, generator: torch.Generator) -> Noise:
        """Draw the noise of `n` values on the device of `generator`."""
        raise NotImplementedError


class Root(Mechanism):
    """Serve as the base of variables without parents: the noise is the value itself. Subclasses give the prior."""

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Return `value`."""
        return value

    def predict(self, noise: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Return `noise`."""
        return noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density (or log probability) of `value`, shape (B,): minus infinity off the support."""
        raise NotImplementedError


class CategoricalRoot(Root):
    """Draw an int64 uniformly from 0, ..., `classes` - 1."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def sample_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` classes, int64, shape (n,)."""
        return torch.randint(self.classes, (n,), generator=generator, device=generator.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute `-log(classes)` on the support, in the default dtype."""
        supported = (value >= 0) & (value < self.classes)
        return torch.where(supported, -math.log(self.classes), -math.inf)


class GammaRoot(Root):
    """Draw `shift + Gamma(shape, rate)` for a whole `shape`, which is a sum of `shape` exponentials.

    Arguments: `shift` in the unit of the variable, `shape` >= 1, `rate` > 0 in one over that unit.
    """

    def __init__(self, shift: float, shape: int, rate: float) -> None:
        super().__init__()
        self.shift, self.shape, self.rate = shift, shape, rate

    def sample_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` values, shape (n,), in the default dtype."""
        waits = torch.empty(n, self.shape, device=generator.device).exponential_(generator=generator)
        return self.shift + waits.sum(dim=1) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute `k log r + (k - 1) log y - r y - log Γ(k)` at `y = value - shift`, in the dtype of `value`."""
        y = value - self.shift
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        density = constant + torch.xlogy(torch.full_like(y, self.shape - 1), y) - self.rate * y
        return torch.where(y >= 0, density, -math.inf)


class LinearGaussian(Mechanism):
    """Add Gaussian noise to a weighted sum: `value = bias + Σ_k weights[k] · pa_k + scale · eps`, eps ~ N(0, 1).

    Arguments: `weights` per parent, `bias` and `scale` (not zero) in the unit of the value.

    >>> LinearGaussian({"a": 2.0}, bias=1.0, scale=0.5).abduct(torch.tensor([8.0]), {"a": torch.tensor([3])})
    tensor([2.])
    """

    def __init__(self, weights: Mapping[str, float], bias: float, scale: float) -> None:
        super().__init__()
        self.weights, self.bias, self.scale = dict(weights), bias, scale

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Compute `eps = (value - bias - Σ_k weights[k] · pa_k) / scale`, shape (B,)."""
        return (value - _linear(self.weights, self.bias, parents, like=value)) / self.scale

    def predict(self, noise: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Compute the value, shape (B,), from eps."""
        return _linear(self.weights, self.bias, parents, like=noise) + self.scale * noise

    def sample_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` standard normal eps, shape (n,), in the default dtype."""
        return torch.randn(n, generator=generator, device=generator.device)


class SigmoidNoise(NamedTuple):
    """Hold the noise of a `ScaledSigmoid`: `eps` and, in the unit of the value, `offset`; both of shape (B,)."""

    eps: Tensor
    offset: Tensor


class ScaledSigmoid(Mechanism):
    """Squash a weighted sum: `value = low + (high - low) · σ(bias + Σ_k weights[k] · pa_k + scale · eps) + offset`.

    A measured value may lie on or beyond an end of (low, high), as a saturated pixel does, where eps would not be
    finite. There eps is abducted from the value `margin` inside that end, and `offset` is the rest; strictly inside,
    offset is zero. Nothing observed is clipped: `predict` adds the offset back, so that composition is exact for every
    value. Reversibility is exact where the offset is zero, there and back.

    Arguments: `low`, `high` and `margin` (half a grey level) in the unit of the value, `weights` per parent,
    `bias` and `scale` (not zero) in logits.
    """

    def __init__(
        self, low: float, high: float, weights: Mapping[str, float], bias: float, scale: float, margin: float = 0.5
    ) -> None:
        super().__init__()
        self.low, self.high, self.margin = low, high, margin
        self.weights, self.bias, self.scale = dict(weights), bias, scale

    def abduct(
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator | None = None
    ) -> SigmoidNoise:
        """Compute `eps = (logit((v - low) / (high - low)) - bias - Σ_k weights[k] · pa_k) / scale` and the offset."""
        ordinary = (self.low < value) & (value < self.high)
        inside = torch.where(ordinary, value, value.clamp(self.low + self.margin, self.high - self.margin))
        logit = (inside - self.low).log() - (self.high - inside).log()
        eps = (logit - _linear(self.weights, self.bias, parents, like=value)) / self.scale
        return SigmoidNoise(eps, offset=value - inside)

    def predict(self, noise: SigmoidNoise, parents: Mapping[str, Tensor]) -> Tensor:
        """Compute the value, shape (B,), from eps and the offset."""
        logit = _linear(self.weights, self.bias, parents, like=noise.eps) + self.scale * noise.eps
        return self.low + (self.high - self.low) * logit.sigmoid() + noise.offset

    def sample_noise(self, n: int, generator: torch.Generator) -> SigmoidNoise:
        """Draw `n` standard normal eps, shape (n,), in the default dtype, with offset zero."""
        eps = torch.randn(n, generator=generator, device=generator.device)
        return SigmoidNoise(eps, offset=torch.zeros_like(eps))


def _linear(weights: Mapping[str, float], bias: float, parents: Mapping[str, Tensor], like: Tensor) -> Tensor | float:
    """Compute `bias + Σ_k weights[k] · pa_k` in the dtype and on the device of `like`."""
    return bias + sum(weight * parents[name].to(like) for name, weight in weights.items())
