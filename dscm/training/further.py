"""Trained models that are trained further: an oracle; a diffusion mechanism, or the flow prior of its code alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.graph import Graph
from dscm.checkpoint import build, restore_image, restore_oracle
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.prior import FlowPrior
from dscm.errors import InputError, option
from dscm.oracle import Oracle
from dscm.training.recipe import Recipe

SETTLED = ("p_null", "null_apart")  # settings that the trained mechanism has, and its checkpoint must keep


class PriorFit(nn.Module):
    """Maximise the likelihood of the codes that abduction finds, the means of q(z | x), under the flow of their prior.

    A flow that is trained with the encoder fits samples of q, which are spread more widely than their means, by a
    spread that depends on the image.

    Args:
        mechanism: trained, with a flow prior; its other weights stay, and it stays in evaluation mode.
    """

    def __init__(self, mechanism: DiffusionMechanism) -> None:
        super().__init__()
        self.mechanism = mechanism.eval().requires_grad_(False)
        mechanism.prior.flow.requires_grad_(True)

    def train(self, mode: bool = True) -> "PriorFit":
        """Change nothing: codes are those of the encoder as it is used, without dropout."""
        return self

    def forward(self, value: Tensor, parents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the mean of ``−log p(z | pa)`` in nats.

        Args:
            value: images in [-1, 1], (B, C, H, W).
            parents: every attribute, each (B,).

        Returns:
            It, as ``loss``.
        """
        prior, scaling = self.mechanism.prior, self.mechanism.scaling
        assert isinstance(prior, FlowPrior)
        pa = scaling({variable.name: parents[variable.name] for variable in scaling.variables})
        return {"loss": -prior.log_prob(self.mechanism.encoder(value).mean, pa).mean()}


def restore_trained(recipe: Recipe, graph: Graph, device: torch.device) -> tuple[DiffusionMechanism, Mapping[str, Any]]:
    """Restore the diffusion mechanism whose training a recipe goes on with.

    Where the recipe asks for a flow prior and the mechanism has none, it gets one that is the identity.

    Args:
        recipe: the settings of the training.
        graph: the causal graph.
        device: the device of the training.

    Returns:
        The mechanism, and the arguments of its constructor.

    Raises:
        InputError: the checkpoint holds another mechanism or graph, its prior is another and no flow is wanted, or one
            that `Obedience` or `Keeping` would not fit, or the prior alone is fitted and its training had other
            settings that its checkpoint keeps.
    """
    trained = restore_image(Path(str(recipe.fine_tune)), device)
    if (trained.model.kind, trained.graph.key) != (recipe.mechanism, graph.key):
        held = f"{trained.model.kind} of {trained.graph.name}"
        raise InputError(
            f"{option('fine_tune')} {recipe.fine_tune}: holds {held}, not {recipe.mechanism} of {graph.name}"
        )
    prior = trained.config.get("prior")
    if recipe.prior not in (None, "flow", prior):
        raise InputError(
            f"{option('prior')} {recipe.prior}: the model of {option('fine_tune')} has {prior}; only flow may follow"
        )
    if (recipe.judged or recipe.keep) and recipe.prior not in (None, prior):
        held = option("keep" if recipe.keep else "obey")
        text = f"{held} leaves the prior as it is, and the model of {option('fine_tune')} has {prior}"
        raise InputError(f"{option('prior')} {recipe.prior}: {text}; fit one with {option('only_prior')}")
    for name in SETTLED if recipe.only_prior else ():
        value, kept = getattr(recipe, name), trained.settings.get(name, getattr(Recipe, name))
        if (value or 0) != (kept or 0):
            text = f"{option(name)} {value}: the model of {option('fine_tune')} was trained with {kept}; give the same"
            raise InputError(text)
    config = {**trained.config, "prior": recipe.prior} if recipe.prior else trained.config
    mechanism = build("image", graph, config)
    assert isinstance(mechanism, DiffusionMechanism)
    mechanism.load_state_dict(mechanism.state_dict() | trained.model.state_dict())
    return mechanism.to(device), config


def restore_judge(recipe: Recipe, graph: Graph, device: torch.device) -> tuple[Oracle, Mapping[str, Any]]:
    """Restore the oracle whose training a recipe goes on with, as one of drawings that shall know photographs.

    Args:
        recipe, graph, device: as in `restore_trained`.

    Returns:
        The oracle, and the arguments of its constructor.

    Raises:
        InputError: the checkpoint holds something else, or is of another graph.
    """
    trained = restore_oracle(Path(str(recipe.fine_tune)), device)
    if trained.graph.key != graph.key:
        words = f"an oracle of {trained.graph.name}, not {graph.name}"
        raise InputError(f"{option('fine_tune')} {recipe.fine_tune}: {words}")
    return trained.model.requires_grad_(True), trained.config
