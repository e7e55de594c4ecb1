"""Further training of diffusion mechanisms under an oracle, for interventions that are obeyed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.scm import SCM
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.objective import counterfactual_in_short
from dscm.oracle import Oracle
from dscm.training.pairs import find_partners
from dscm.training.tuning import intervene

SHARE = 4  # one in so many images of a batch is intervened on
CLOSE = 10.0  # ρ, nats that an error of 1 in every pixel costs, on [-1, 1]
TAUGHT = 100.0  # the same, where the true counterfactual is known


class Obedience(nn.Module):
    """Add to a mechanism's own loss what an oracle says of its counterfactuals, and their distance to what is right.

    The sum is ``η·D·(−log p(pa* | x*) + ρ·|x* − x°|)``, the last term a mean over pixels, D the number of pixel values.

    x* is the counterfactual of an image, unguided and by `counterfactual_in_short`, and p is
    the oracle (after De Sousa Ribeiro et al. 2023, who tune a hierarchical VAE so). Without pairs, pa* are the
    attributes under one of the interventions of the graph, with values of another image of the batch, and x° is the
    image itself: no more shall change than must (after Wachter et al. 2018, eq. 1). Of a pair, pa* are those of the
    other image, and x° is that image: the true counterfactual.

    Whoever judges the result needs another oracle: one can be pleased without being right.

    Args:
        mechanism: trained.
        oracle: predicts attributes from images; its weights are fixed.
        attributes: the causal model of the attributes alone; its weights are fixed.
        queries: the interventions, each as the variables that it sets.
        weight: η.
    """

    def __init__(
        self,
        mechanism: DiffusionMechanism,
        oracle: Oracle,
        attributes: SCM,
        queries: Sequence[Sequence[str]],
        weight: float,
    ) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.oracle, self.attributes = oracle.eval().requires_grad_(False), attributes.requires_grad_(False)
        self.queries, self.weight = queries, weight

    def train(self, mode: bool = True) -> "Obedience":
        """Set the mode of the mechanism alone: the oracle judges without dropout."""
        self.mechanism.train(mode)
        return self

    def forward(
        self,
        value: Tensor,
        parents: Mapping[str, Tensor],
        generator: torch.Generator,
        like: Tensor | None = None,
        **rest: Any,
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: every attribute, each (B,).
            generator: source of the mechanism's loss and of the interventions.
            like: of each image, the first of its pair, int64 (B,), as `Pairs.like`; None without pairs.
            rest: what else the loss of the mechanism takes.

        Returns:
            Scalars: ``loss``; ``counterfactual``, the oracle's loss; ``error``, ``|x* − x°|``; and the mechanism's
            other terms.
        """
        terms = self.mechanism(value, parents, generator, like=like, **rest)
        n = -(-len(value) // SHARE)
        obs = {name: attribute[:n] for name, attribute in parents.items()}
        if like is None:
            new, wanted, rho = intervene(self.queries, self.attributes, obs, generator), value[:n], CLOSE
        else:
            partner = find_partners(like, n)
            new, wanted, rho = {name: x[partner] for name, x in parents.items()}, value[partner], TAUGHT
        image = self._predict(value[:n], obs, new)
        judged, error = self.oracle(image, new)["loss"], (image - wanted).abs().mean()
        loss = terms["loss"] + self.weight * value[0].numel() * (judged + rho * error)
        return terms | {"counterfactual": judged.detach(), "error": error.detach(), "loss": loss}

    def _predict(self, value: Tensor, obs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> Tensor:
        """Predict the counterfactuals of images in [-1, 1] whose attributes change."""
        mechanism = self.mechanism
        own = {variable.name for variable in mechanism.scaling.variables}
        pa, new = (
            mechanism.scaling({name: x for name, x in values.items() if name in own}) for values in (obs, changed)
        )
        z = mechanism.encode(value, pa)
        conditions = mechanism.condition(z, pa), mechanism.condition(z, new)
        return counterfactual_in_short(mechanism.eps, *conditions, value, mechanism.schedule).clamp(-1, 1)
