"""Mechanisms of attributes that are fitted to data."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.data.scaling import ParentScaling
from dscm.mechanisms import Mechanism
from dscm.nn import mlp
from dscm.variables import Variable

CERTAIN = 15.0  # logits beyond it are clamped, so that no probability is 0 or 1 and every observation is possible


class BinaryMechanism(Mechanism):
    """Throw a coin whose bias the parents set: ``value = 1[u < σ(f(pa))]`` with ``u ~ U(0, 1)`` and f a small network.

    What was observed leaves u open: it is uniform below ``p = σ(f(pa))`` where the value is 1, and above it where it is
    0. Composition returns the observed value always; and over the draws of u a counterfactual moves it as often as
    the change of p says, and no oftener.

    Args:
        parents: of the variable, in order.
        hidden: width of the network.
    """

    dtype = torch.int64

    def __init__(self, parents: Sequence[Variable], hidden: int = 32) -> None:
        super().__init__()
        self.scaling = ParentScaling(parents)
        self.net = mlp(self.scaling.dim, hidden, 1)

    def logits(self, parents: Mapping[str, Tensor]) -> Tensor:
        """Compute f, (B,), of parents in raw units, each (B,)."""
        return self.net(self.scaling(parents)).squeeze(1).clamp(-CERTAIN, CERTAIN)

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw u, (B,), float64, from its posterior given values 0 or 1, (B,), and parents."""
        p = self.logits(parents).double().sigmoid()
        if generator is None:
            share = torch.full_like(p, 0.5)
        else:
            share = torch.rand(len(p), generator=generator, device=p.device, dtype=p.dtype)
        below = torch.minimum(share * p, torch.nextafter(p, torch.zeros_like(p)))  # rounding must not reach p
        return torch.where(value == 1, below, p + share * (1 - p))

    def predict(self, noise: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Return values 0 or 1, int64, shape (B,), from u and the parents."""
        return (noise < self.logits(parents).double().sigmoid()).long()

    def sample_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw u uniformly, float64, shape (n,)."""
        return torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)

    def log_prob(self, value: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Compute the log probability of values 0 or 1, shape (B,)."""
        return -F.binary_cross_entropy_with_logits(self.logits(parents), value.float(), reduction="none")


MECHANISMS = {"binary": BinaryMechanism}


class LearnedAttributes(nn.Module):
    """Hold the mechanisms of a graph's attributes that are fitted to data.

    Args:
        variables: every attribute of the graph; those whose ``learned`` is true get a mechanism.
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
                    raise ValueError(f"no mechanism of kind {variable.kind} can be learned yet")
                parents = [by_name[name] for name in variable.parents]
                self.mechanisms[variable.name] = MECHANISMS[variable.kind](parents, hidden)
        self.parents = {name: by_name[name].parents for name in self.mechanisms}

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Take the scaling of continuous parents from tensors of shape (N,)."""
        for mechanism in self.mechanisms.values():
            mechanism.scaling.fit(data)

    def forward(self, value: Tensor, parents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the negative log-likelihood of attributes.

        Args:
            value: the images, which are not looked at.
            parents: every attribute, (B,).

        Returns:
            Scalars in nats: the sum, ``loss``, and ``nll NAME`` of each variable.
        """
        terms = {}
        for name, mechanism in self.mechanisms.items():
            own = {parent: parents[parent] for parent in self.parents[name]}
            terms[f"nll {name}"] = -mechanism.log_prob(parents[name], own).mean()
        return {"loss": sum(terms.values())} | {name: term.detach() for name, term in terms.items()}
