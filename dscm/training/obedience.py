"""Further training of diffusion mechanisms under an oracle, for interventions that are obeyed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.scm import SCM
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.objective import counterfactual_in_short
from dscm.oracle import Oracle
from dscm.training.tuning import intervene

SHARE = 4  # one in so many images of a batch is intervened on
CLOSE = 10.0  # nats that a change of every pixel by 1 costs, on [-1, 1]


class Obedience(nn.Module):
    """Add to a mechanism's own loss what an oracle says of its counterfactuals, and how far these are from the images.

    ``η·D·(−log p(pa* | x*) + 10·|x* − x|)``, the last term a mean over pixels (after Wachter et al. 2018, eq. 1).

    x* is the counterfactual of an image, unguided and by `counterfactual_in_short`, under one of the interventions of
    the graph, with values of another image of the batch; pa* are the attributes then, D the number of pixel values, and
    p is the oracle (after De Sousa Ribeiro et al. 2023, who tune a hierarchical VAE so). Whoever judges the result
    needs another oracle: one can be pleased without being right.

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
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, **rest: Any
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: every attribute, each (B,).
            generator: source of the mechanism's loss and of the interventions.
            rest: what else the loss of the mechanism takes.

        Returns:
            Scalars: ``loss``; ``counterfactual``, the oracle's loss; ``change``, the mean change of a pixel; and the
            mechanism's other terms.
        """
        terms = self.mechanism(value, parents, generator, **rest)
        n = -(-len(value) // SHARE)
        obs = {name: attribute[:n] for name, attribute in parents.items()}
        changed = intervene(self.queries, self.attributes, obs, generator)
        image = self._predict(value[:n], obs, changed)
        judged, change = self.oracle(image, changed)["loss"], (image - value[:n]).abs().mean()
        loss = terms["loss"] + self.weight * value[0].numel() * (judged + CLOSE * change)
        return terms | {"counterfactual": judged.detach(), "change": change.detach(), "loss": loss}

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
