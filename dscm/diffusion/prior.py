"""The prior p(z | pa) of the semantic code, which says what of a code is exogenous."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call

from dscm.causal import splines
from dscm.layers import clamped_normal, zero_init

BINS = 8  # of a spline
BOUND = 4.0  # standard deviations beyond which a spline is the identity
HIDDEN = 96  # width of the networks of a flow


class StandardPrior(nn.Module):
    """The paper's ``p(z) = N(0, I)``, independent of the parents (eq. 13).

    A prior has two maps. The Normal that it returns standardises a code, ``e = (z − μ(pa))/σ(pa)``, which is what the
    denoising network is shown. `to_noise` makes the exogenous noise ``ε = T(e; pa)`` of it, which a counterfactual
    keeps, and `from_noise` goes back, under the new parents. Here e is z and T the identity.

    Args:
        parents_dim: size of the encoded parents.
        code_dim: size of z.
    """

    def __init__(self, parents_dim: int, code_dim: int) -> None:
        super().__init__()

    def forward(self, parents: Tensor, like: Tensor) -> Normal:
        """Return a Normal of the shape of ``like``, (B, code_dim), given encoded parents (B, parents_dim)."""
        return Normal(torch.zeros_like(like), torch.ones_like(like), validate_args=False)

    def to_noise(self, e: Tensor, parents: Tensor) -> Tensor:
        """Return the noise ε, (B, code_dim), of standardised codes given encoded parents (B, parents_dim)."""
        return e

    def from_noise(self, noise: Tensor, parents: Tensor) -> Tensor:
        """Return the standardised codes e, (B, code_dim), of noise given encoded parents (B, parents_dim)."""
        return noise

    def kl(self, q: Normal, z: Tensor, parents: Tensor) -> Tensor:
        """Return ``KL(q(z | x) ‖ p(z | pa))`` in nats, (B,).

        Args:
            q: of batch shape (B, code_dim).
            z: a sample of it, for a prior whose KL has no closed form.
            parents: encoded, (B, parents_dim).
        """
        return kl_divergence(q, self(parents, q.mean)).sum(dim=1)


class ConditionalPrior(StandardPrior):
    """Learn ``p(z | pa) = N(μ(pa), σ²(pa))``.

    The KL term is minimal where μ(pa) is the mean of z given the parents. ``e = (z − μ(pa))/σ(pa)`` then has zero mean
    and unit variance for every value of the parents, whose linear effect on z is removed. What is left, in its shape
    and in how its entries vary together, still tells of them.

    Args:
        parents_dim, code_dim: as in `StandardPrior`.
        hidden: width of the two hidden layers.
    """

    def __init__(self, parents_dim: int, code_dim: int, hidden: int = 128) -> None:
        super().__init__(parents_dim, code_dim)
        self.net = _perceptron(parents_dim, hidden, 2 * code_dim)

    def forward(self, parents: Tensor, like: Tensor) -> Normal:
        """Return a Normal of the shape of ``like``, (B, code_dim), given encoded parents (B, parents_dim)."""
        return clamped_normal(*self.net(parents).chunk(2, dim=1))


class FlowPrior(ConditionalPrior):
    """Learn ``p(z | pa)`` as a flow of standard normal noise, so that the noise of a code is exogenous.

    ``ε = T(e; pa)`` is an autoregressive spline flow of the standardised code, and ``p(z | pa) = N(T(e; pa); 0, I)
    · |det ∂T/∂e| / Π σ(pa)``. Where it is the density of the codes, ε is independent of the parents, not its mean and
    variance alone.

    Args:
        parents_dim, code_dim: as in `StandardPrior`.

    Source: Papamakarios, Pavlakou and Murray 2017, "Masked autoregressive flow for density estimation"; the splines are
    those of `dscm.causal.splines`.
    """

    def __init__(self, parents_dim: int, code_dim: int) -> None:
        super().__init__(parents_dim, code_dim)
        self.flow = AutoregressiveFlow(parents_dim, code_dim)

    def to_noise(self, e: Tensor, parents: Tensor) -> Tensor:
        """Return T(e; pa), (B, code_dim)."""
        return self.flow(e, parents)[0]

    def from_noise(self, noise: Tensor, parents: Tensor) -> Tensor:
        """Return T⁻¹(ε; pa), (B, code_dim)."""
        return self.flow.inverse(noise, parents)

    def kl(self, q: Normal, z: Tensor, parents: Tensor) -> Tensor:
        """Return the estimate of the KL by one sample, ``−H(q) − log p(z | pa)``, (B,)."""
        return -q.entropy().sum(dim=1) - self.log_prob(z, parents)

    def log_prob(self, z: Tensor, parents: Tensor) -> Tensor:
        """Compute the log density of codes (B, code_dim) given encoded parents (B, parents_dim), (B,)."""
        p = self(parents, z)
        noise, log_slope = self.flow((z - p.mean) / p.stddev, parents)
        log_normal = -(noise.square() + math.log(2 * math.pi)) / 2
        return (log_normal + log_slope - p.stddev.log()).sum(dim=1)

    def divergence(self, e: Tensor, parents: Tensor) -> Tensor:
        """Estimate ``KL(p(e | pa) ‖ N(0, I))``, how far standardised codes are from noise as they are, (B,), in nats.

        ``log p(e | pa) − log N(e; 0, I)``, with gradients for the codes alone: they move to where T may be the
        identity, and T follows them by its own likelihood.

        Args:
            e: standardised samples of q, (B, code_dim).
            parents: encoded, (B, parents_dim).

        Source: the second term of the rate in Hoffman and Johnson 2016, "ELBO surgery", given the parents.
        """
        frozen = {name: weight.detach() for name, weight in self.flow.named_parameters()}
        noise, log_slope = functional_call(self.flow, frozen, (e, parents))
        return (log_slope + (e.square() - noise.square()) / 2).sum(dim=1)


class AutoregressiveFlow(nn.Module):
    """Map codes to noise one entry after the other, ``ε_i = F(e_i; f_i(pa, e_1 … e_{i−1}))``, and back, exactly.

    F is an affine map, then a rational-quadratic spline. It starts as the identity.

    Args:
        parents_dim: size of the encoded parents.
        code_dim: number of entries.
    """

    def __init__(self, parents_dim: int, code_dim: int) -> None:
        super().__init__()
        outputs = 2 + splines.parameter_count(BINS)
        self.nets = nn.ModuleList(_perceptron(parents_dim + i, HIDDEN, outputs) for i in range(code_dim))

    def forward(self, e: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
        """Return ε and the log slope of each entry, both (B, code_dim)."""
        found = [net(torch.cat([parents, e[:, :i]], dim=1)) for i, net in enumerate(self.nets)]
        shift, log_scale, spline = _read(torch.stack(found, dim=1).to(e.dtype))  # no splines in bfloat16
        noise, log_slope = splines.forward(spline, (e - shift) * (-log_scale).exp())
        return noise, log_slope - log_scale

    def inverse(self, noise: Tensor, parents: Tensor) -> Tensor:
        """Return e, (B, code_dim): each entry needs those before it."""
        e = noise[:, :0]
        for net, own in zip(self.nets, noise.unbind(dim=1)):
            shift, log_scale, spline = _read(net(torch.cat([parents, e], dim=1)))
            entry = shift + log_scale.exp() * splines.inverse(spline, own)
            e = torch.cat([e, entry[:, None]], dim=1)
        return e


def _read(parameters: Tensor) -> tuple[Tensor, Tensor, splines.Spline]:
    """Read shift, log scale and spline from parameters (…, P)."""
    return parameters[..., 0], parameters[..., 1].clamp(-7, 7), splines.make_spline(parameters[..., 2:], BOUND)


def _perceptron(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    """Build a network of two hidden layers whose outputs start at zero."""
    first, second, last = nn.Linear(in_dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out_dim)
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), zero_init(last))


PRIORS: Mapping[str, type[StandardPrior]] = {
    "standard": StandardPrior,
    "conditional": ConditionalPrior,
    "flow": FlowPrior,
}
