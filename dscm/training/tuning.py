"""Counterfactual fine-tuning of autoencoders (De Sousa Ribeiro et al. 2023): obey interventions, stay a good model."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.baselines.autoencoder import Autoencoder
from dscm.oracle import Oracle
from dscm.causal.scm import SCM

INITIAL_WEIGHT = 1.0  # of the constraint


class CounterfactualTuning(nn.Module):
    """Train a mechanism so that an oracle finds in its counterfactuals what was intervened on.

    ``min_θ max_{λ ≥ 0} −log p(pa* | x*) + λ·(−ELBO(x, pa) − c)/D``, where x* is the counterfactual of an image under
    an intervention on one of its parents, pa* what the parents are under it, p the oracle, D the number of pixels and c
    the level that the mechanism had before, with some slack: as Lagrange multiplier, λ grows while the evidence lower
    bound is worse than that. The noise of x* is what the mechanism abducts, and gradients run through it.

    Args:
        mechanism: of the image, trained.
        oracle: predicts attributes from images; its weights stay.
        attributes: the causal model of the attributes alone; its weights stay.
        slack: by how much −ELBO may grow, as a fraction of it.
    """

    def __init__(self, mechanism: Autoencoder, oracle: Oracle, attributes: SCM, slack: float = 0.02) -> None:
        super().__init__()
        self.mechanism, self.slack = mechanism, slack
        self.oracle, self.attributes = oracle.requires_grad_(False), attributes.requires_grad_(False)
        self.raw_weight = nn.Parameter(torch.tensor(INITIAL_WEIGHT).expm1().log())  # of which λ is the softplus
        self.register_buffer("bound", torch.tensor(float("nan")))  # c

    @torch.no_grad()
    def set_bound(self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, beta: float) -> None:
        """Take c from how well the mechanism explains images in [-1, 1], (N, C, H, W), and their parents, (N,)."""
        loss = self.mechanism(value, parents, generator, beta)["loss"]
        self.bound.copy_(loss + self.slack * loss.abs())

    def forward(
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, beta: float
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: every attribute, each (B,).
            generator: of the codes and the interventions.
            beta: weight of the KL term.

        Returns:
            Scalars: ``loss``; ``counterfactual``, the oracle's loss; ``multiplier``, λ; and the mechanism's own terms.
        """
        terms = self.mechanism(value, parents, generator, beta)
        excess = terms["loss"] - self.bound
        changed = self._intervene(parents, generator)
        image = self.mechanism.predict(self.mechanism.abduct(value, parents), changed)
        counterfactual = self.oracle(image, changed)["loss"]
        weight = F.softplus(self.raw_weight)
        # Descending this loss descends the Lagrangian in θ and ascends it in λ.
        loss = value[0].numel() * counterfactual + weight.detach() * excess - weight * excess.detach()
        about = {"counterfactual": counterfactual.detach(), "multiplier": weight.detach()}
        return terms | about | {"loss": loss}

    @torch.no_grad()
    def _intervene(self, parents: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Set one parent of the image, drawn by lot, to the values that other images of the batch have."""
        names = [variable.name for variable in self.mechanism.scaling.variables]
        device = generator.device
        name = names[int(torch.randint(len(names), (), generator=generator, device=device))]
        order = torch.randperm(len(parents[name]), generator=generator, device=device)
        return self.attributes.counterfactual(parents, {name: parents[name][order]}, generator)
