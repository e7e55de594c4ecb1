"""The fit of a flow prior to the codes of a trained semantic mechanism, all else fixed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.graph import Graph
from dscm.checkpoint import Restored, build, restore_image
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.errors import InputError, option
from dscm.training.recipe import Recipe

SETTLED = ("p_null", "null_apart")  # settings that the trained mechanism has, and its checkpoint must keep


class PriorFit(nn.Module):
    """Maximise the likelihood of samples of q(z | x) under the flow of their prior.

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

    def forward(self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute ``KL(q(z | x) ‖ p(z | pa))`` in nats of images in [-1, 1], (B, C, H, W), by one sample each.

        Args:
            value: the images.
            parents: every attribute, each (B,).
            generator: source of the codes.

        Returns:
            The mean, ``loss``.
        """
        pa = self.mechanism.scaling(
            {variable.name: parents[variable.name] for variable in self.mechanism.scaling.variables}
        )
        return {"loss": self.mechanism.kl(value, pa, generator).mean()}


def start_prior_fit(recipe: Recipe, graph: Graph, device: torch.device) -> tuple[PriorFit, Mapping[str, Any]]:
    """Restore the semantic mechanism that a recipe names, with a flow as its prior: the identity, or the one it has.

    Args:
        recipe: the settings of the training.
        graph: the causal graph.
        device: the device of the training.

    Returns:
        The objective, and the arguments of the mechanism's constructor.

    Raises:
        InputError: the checkpoint holds another mechanism or graph, or was trained with other settings that it keeps.
    """
    trained = restore_image(Path(str(recipe.fine_tune)), device)
    if (trained.model.kind, trained.graph.key) != ("semantic", graph.key):
        held = f"{trained.model.kind} of {trained.graph.name}"
        raise InputError(f"{option('fine_tune')} {recipe.fine_tune}: holds {held}, not semantic of {graph.name}")
    _check_settled(recipe, trained)
    config = {**trained.config, "prior": "flow"}
    mechanism = build("image", graph, config)
    assert isinstance(mechanism, DiffusionMechanism)
    mechanism.load_state_dict(mechanism.state_dict() | trained.model.state_dict())
    return PriorFit(mechanism.to(device)), config


def _check_settled(recipe: Recipe, trained: Restored[Any]) -> None:
    """Refuse settings that the trained mechanism does not have."""
    for name in SETTLED:
        value, kept = getattr(recipe, name), trained.settings.get(name, getattr(Recipe, name))
        if (value or 0) != (kept or 0):
            text = f"{option(name)} {value}: the model of {option('fine_tune')} was trained with {kept}; give the same"
            raise InputError(text)
