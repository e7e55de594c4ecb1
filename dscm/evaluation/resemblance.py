"""Realism and minimality of a row, from the features of its images."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.evaluation.bins import group_values
from dscm.evaluation.features import Embedding, embed
from dscm.evaluation.minimality import latent_divergence
from dscm.evaluation.realism import measure_realism
from dscm.evaluation.statistics import mean_over
from dscm.evaluation.task import Task

LEAST = 4  # images that distances between sets need
OBSERVED = "observation"
Paths = dict[tuple[str, ...], Tensor]


def embed_images(embeddings: Mapping[str, Embedding], images: Mapping[str, Tensor], task: Task) -> Paths:
    """Return the features of a batch's observations and counterfactuals, by embedding and intervention.

    Args:
        embeddings: by name.
        images: uint8, by label, as `evaluate_batch` returns them.
        task: the batch.
    """
    labels = {OBSERVED: OBSERVED} | {name: f"do({name})" for name in task.interventions}
    return {
        (embedding, name): embed(network, images[label])
        for embedding, network in embeddings.items()
        for name, label in labels.items()
    }


def compare_features(features: Mapping[tuple[str, ...], Tensor], graph: Graph, task: Task) -> Paths:
    """Compare the features of all counterfactuals with those of the test images.

    Args:
        features: from `embed_images`, of all images in order, (N, F).
        graph: the causal graph.
        task: the images and interventions.

    Returns:
        For every intervention and embedding the kernel distance, (N,), and its floor, as in `measure_realism`; the
        Fréchet distance, (1,), where there are enough images; and for single variables the latent divergence, as
        `mean_over` the images for which it is defined, (N, 2).
    """
    result: Paths = {}
    for embedding, name in features:
        real = features[embedding, OBSERVED]
        if len(real) < LEAST:
            continue
        found = measure_realism(features[embedding, name], real)
        result["realism", name, f"{embedding}_kernel"] = found["kernel"].cpu()
        if not found["frechet"].isnan():
            result["realism", name, f"{embedding}_frechet"] = found["frechet"].reshape(1)
        if name != OBSERVED:
            result["minimality", name, f"{embedding}_cld"] = _diverge(
                features[embedding, name], real, graph, task, name
            )
    return result


def _diverge(counterfactual: Tensor, real: Tensor, graph: Graph, task: Task, name: str) -> Tensor:
    """Return the latent divergence of counterfactuals, (N, 2) as `mean_over`; images whose value stays do not count."""
    variable, factual = graph.variable(name), task.obs[name]
    groups = [group_values(x, factual, variable.discrete) for x in (task.interventions[name][name], factual)]
    new, old = (group.to(real.device) for group in groups)
    divergence = latent_divergence(counterfactual, real, new, old).cpu()
    defined = ~divergence.isnan() & task.changed(name).cpu()
    return mean_over(torch.where(defined, divergence, 0.0), defined)
