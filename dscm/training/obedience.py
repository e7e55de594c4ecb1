"""Further training of diffusion mechanisms by their own counterfactuals, so that interventions are obeyed."""

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
CLOSE = 10.0  # ρ, nats that a change of every pixel by 1 costs, on [-1, 1]


class Obedience(nn.Module):
    """Add to a mechanism's loss what an oracle says of its counterfactuals: ``η·D·(−log p(pa* | x*) + ρ·|x* − x|)``.

    x* is the counterfactual of an image x, unguided and by `counterfactual_in_short`, under one of the interventions of
    the graph, with values of another image of the batch; pa* are the attributes then, p is the oracle (after De Sousa
    Ribeiro et al. 2023, who tune a hierarchical VAE so), D the number of pixel values. The last term, a mean over
    pixels, keeps what need not change (after Wachter et al. 2018, eq. 1).

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
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, **rest: Any
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: every attribute, each (B,).
            generator: source of the mechanism's loss and of the interventions.
            rest: what else the loss of the mechanism takes.

        Returns:
            Scalars: ``loss``; ``counterfactual``, the oracle's loss; ``change``, ``|x* − x|``; and the mechanism's
            other terms.
        """
        terms = self.mechanism(value, parents, generator, **rest)
        value = value[: -(-len(value) // SHARE)]
        obs = {name: attribute[: len(value)] for name, attribute in parents.items()}
        new = intervene(self.queries, self.attributes, obs, generator)
        image = predict(self.mechanism, value, obs, new)
        judged, change = self.oracle(image, new)["loss"], (image - value).abs().mean()
        loss = terms["loss"] + self.weight * value[0].numel() * (judged + CLOSE * change)
        return {**terms, "counterfactual": judged.detach(), "change": change.detach(), "loss": loss}


class Example(nn.Module):
    """Add to a mechanism's loss the distance of its counterfactuals to the true ones: ``η·Σ(x* − x°)²``.

    Of a pair of images of one thing under different parents each is the true counterfactual x° of the other. x* is as
    in `Obedience`, and the sum is over pixels.

    Args:
        mechanism: trained.
        weight: η.
    """

    def __init__(self, mechanism: DiffusionMechanism, weight: float) -> None:
        super().__init__()
        self.mechanism, self.weight = mechanism, weight

    def forward(
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, like: Tensor, **rest: Any
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value, parents, generator, rest: as in `Obedience`.
            like: of each image, the first of its pair, int64 (B,), as `Pairs.like`.

        Returns:
            Scalars: ``loss``; ``error``, the mean of ``(x* − x°)²``; and the mechanism's other terms.
        """
        terms = self.mechanism(value, parents, generator, like=like, **rest)
        n = -(-len(value) // SHARE)
        partner = find_partners(like, n)
        obs = {name: attribute[:n] for name, attribute in parents.items()}
        new = {name: attribute[partner] for name, attribute in parents.items()}
        error = (predict(self.mechanism, value[:n], obs, new) - value[partner]).square().mean()
        loss = terms["loss"] + self.weight * value[0].numel() * error
        return {**terms, "error": error.detach(), "loss": loss}


def predict(
    mechanism: DiffusionMechanism, value: Tensor, obs: Mapping[str, Tensor], changed: Mapping[str, Tensor]
) -> Tensor:
    """Predict the counterfactuals of images in [-1, 1], (B, C, H, W), whose attributes change; with gradients."""
    own = [variable.name for variable in mechanism.scaling.variables]
    pa, new = (mechanism.scaling({name: values[name] for name in own}) for values in (obs, changed))
    z = mechanism.encode(value, pa)
    conditions = mechanism.condition(z, pa), mechanism.condition(z, new)
    return counterfactual_in_short(mechanism.eps, *conditions, value, mechanism.schedule).clamp(-1, 1)
