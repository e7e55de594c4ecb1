"""Counterfactual fine-tuning of autoencoders, for more effective interventions (De Sousa Ribeiro et al. 2023)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dscm import runs
from dscm.baselines.autoencoder import Autoencoder
from dscm.causal.graph import Graph
from dscm.causal.scm import SCM
from dscm.checkpoint import restore_image
from dscm.data.scaling import to_signed
from dscm.errors import InputError, option
from dscm.oracle import Oracle, no_oracle
from dscm.training.recipe import Recipe

DAMPING = 100.0  # d, of the multiplier of the constraint
MULTIPLIER_RATE = 10.0  # the learning rate of λ, relative to that of the weights
JUDGED = 1000  # images that measure the mechanism before it is tuned


class CounterfactualTuning(nn.Module):
    """Maximise the likelihood of interventions under an oracle, with a bound on the mechanism's own loss.

    ``min_θ max_{λ ≥ 0} −log p(pa* | x*) + λ·(F − c)`` with F = −ELBO/D(x, pa), D the number of pixel values, and c, F
    before tuning. x* is the counterfactual of an image, in [-1, 1] and from sampled latents, under an intervention on
    one of its parents; pa* are its parents then, and p is the oracle. θ descends, and λ ascends, the damped Lagrangian

        ``−log p(pa* | x*) − (λ − d·sg(c − F))·(c − F)``,

    sg stopping the gradient: so the constraint weighs λ + d·(F − c), which is negative where F lies far below c (paper,
    section 3.4; its code has d = 100, λ = 0 at first, and 0.01 as its learning rate, as here at a learning rate of
    0.001 of the weights). Gradients also flow through the abducted noise. Here all of it is multiplied by D.

    Args:
        mechanism: the mechanism of the image, trained.
        oracle: predicts attributes from images; its weights are fixed.
        attributes: the causal model of the attributes alone; its weights are fixed.
    """

    bound: Tensor

    def __init__(self, mechanism: Autoencoder[Any], oracle: Oracle, attributes: SCM) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.oracle, self.attributes = oracle.requires_grad_(False), attributes.requires_grad_(False)
        self.raw_multiplier = nn.Parameter(torch.zeros(()))  # λ/MULTIPLIER_RATE
        self.register_buffer("bound", torch.tensor(float("nan")))  # c

    @torch.no_grad()
    def set_bound(self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, beta: float) -> None:
        """Set c from −ELBO of images in [-1, 1], (N, C, H, W), with parents (N,)."""
        self.bound.copy_(self.mechanism(value, parents, generator, beta)["loss"] / value[0].numel())

    def forward(
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, beta: float
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: every attribute, each (B,).
            generator: source of the codes and the interventions.
            beta: weight of the KL term.

        Returns:
            Scalars: ``loss``; ``counterfactual``, the oracle's loss; ``multiplier``, λ; and the mechanism's own terms.
        """
        with torch.no_grad():
            self.raw_multiplier.clamp_(min=0)  # after a step, λ is projected to what it may be
        terms = self.mechanism(value, parents, generator, beta)
        pixels = value[0].numel()
        excess = terms["loss"] / pixels - self.bound
        parent_queries = [[variable.name] for variable in self.mechanism.scaling.variables]
        changed = intervene(parent_queries, self.attributes, parents, generator)
        sampled = self.mechanism.using(sample_code=True)
        image = sampled.predict(sampled.abduct(value, parents, generator), changed)
        counterfactual = self.oracle(image, changed)["loss"]
        multiplier = MULTIPLIER_RATE * self.raw_multiplier.detach()
        constraint = (multiplier + DAMPING * excess.detach()) * excess
        # A term of value 0, whose descent is the ascent of λ; its scale is lost on Adam.
        ascent = -excess.detach() * (self.raw_multiplier - self.raw_multiplier.detach())
        loss = pixels * (counterfactual + constraint) + ascent
        return terms | {"counterfactual": counterfactual.detach(), "multiplier": multiplier, "loss": loss}


@torch.no_grad()
def intervene(
    queries: Sequence[Sequence[str]], attributes: SCM, parents: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """Set the variables of a random query to their values in a permutation of the batch.

    Args:
        queries: the interventions to choose from, each as the variables that it sets.
        attributes: the causal model of the attributes.
        parents: every attribute, each (B,).
        generator: source of the choice and the permutation.

    Returns:
        All attributes as they are then, each (B,).
    """
    device = generator.device
    names = queries[int(torch.randint(len(queries), (), generator=generator, device=device))]
    order = torch.randperm(len(parents[names[0]]), generator=generator, device=device)
    return attributes.counterfactual(parents, {name: parents[name][order] for name in names}, generator)


def start_tuning(
    recipe: Recipe, graph: Graph, run: Path | None, data: Mapping[str, Tensor], beta: float, device: torch.device
) -> tuple[CounterfactualTuning, Mapping[str, Any]]:
    """Restore the mechanism that a recipe tunes, and the parts that judge it.

    Args:
        recipe: the settings of the training.
        graph: the causal graph.
        run: the run folder, whose parts come before the bundled ones.
        data: the training split, images uint8; its first images measure the mechanism.
        beta: weight of the KL term.
        device: the device of the training.

    Returns:
        The objective, and the arguments of the mechanism's constructor.

    Raises:
        InputError: the checkpoint holds another mechanism, graph or size, or another part is missing or of another
            graph.
    """
    assert recipe.fine_tune is not None
    tuned = restore_image(Path(recipe.fine_tune), device)
    size = data["image"].shape[-1]
    if (tuned.model.kind, tuned.graph.key, tuned.model.shape[-1]) != (recipe.mechanism, graph.key, size):
        held = f"{tuned.model.kind} of {tuned.graph.name}, {tuned.model.shape[-1]} px"
        wanted = f"{recipe.mechanism} of {graph.name}, {size} px"
        raise InputError(f"{option('fine_tune')} {recipe.fine_tune}: holds {held}, not {wanted}")
    assert isinstance(tuned.model, Autoencoder)
    mechanism = tuned.model.requires_grad_(True)
    objective = CounterfactualTuning(mechanism, *find_judges(recipe, graph, run, device)).to(device)
    first = {name: value[:JUDGED].to(device) for name, value in data.items()}
    generator = torch.Generator(device).manual_seed(recipe.seed)
    objective.set_bound(to_signed(first.pop("image")), first, generator, beta)
    return objective, tuned.config


def find_judges(recipe: Recipe, graph: Graph, run: Path | None, device: torch.device) -> tuple[Oracle, SCM]:
    """Restore the oracle that judges counterfactuals, and the causal model of the attributes. Arguments as above.

    Raises:
        InputError: no oracle is to be found, or a part is of another graph.
    """
    judge = runs.find_oracle(recipe.oracle, run, graph, device)
    if judge is None:
        raise no_oracle(variable.name for variable in graph.predicted)
    return judge.model, find_causes(recipe, graph, run, device)


def find_causes(recipe: Recipe, graph: Graph, run: Path | None, device: torch.device) -> SCM:
    """Restore the causal model of the attributes alone; arguments and errors as above."""
    learned = runs.find_learned(recipe.attributes, run, graph, device)
    return graph.scm(learned=learned.model if learned else None)
