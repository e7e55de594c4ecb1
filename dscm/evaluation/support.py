"""On which part of the training data's support the interventions of an evaluation lie."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.causal.support import RARE, Support
from dscm.evaluation.cells import main_error
from dscm.evaluation.statistics import CHANGED
from dscm.evaluation.task import Task, draw_parents


@torch.no_grad()
def rank_interventions(
    support: Support, graph: Graph, task: Task, seed: int, learned: LearnedAttributes | None = None
) -> dict[str, Tensor]:
    """Return how usual the counterfactual parents of each image are under each intervention.

    Args:
        support: what the training data said of the parents, as a checkpoint carries it.
        graph: the causal graph.
        task: the images and the interventions.
        seed: as in `draw_parents`.
        learned: the learned mechanisms of the attributes, where the graph has any.

    Returns:
        By intervention, the quantiles of `Support.quantile`, (N,).
    """
    parents = draw_parents(graph, task.obs, task.interventions, seed, learned)
    return {name: support.quantile(values) for name, values in parents.items()}


def split_by_support(
    values: Mapping[tuple[str, ...], Tensor], ranks: Mapping[str, Tensor], graph: Graph, task: Task
) -> dict[tuple[str, ...], Tensor]:
    """Split the main error of every intervention by how usual the counterfactual parents are.

    Args:
        values: the metrics of every image.
        ranks: from `rank_interventions`.
        graph: the causal graph.
        task: the images and the interventions.

    Returns:
        For every intervention ``rare_share``, whether the parents are rarer than `RARE` of the training data, (N,); and
        the error of the images that change, where they are rare and where they are ``usual``, as `mean_over`, (N, 2).
    """
    result: dict[tuple[str, ...], Tensor] = {}
    for name in task.interventions:
        rare = (ranks[name] < RARE).cpu()
        error = values["effectiveness", name, name, CHANGED + main_error(graph.variable(name))]  # (N, 2)
        result["support", name, "rare_share"] = rare.double()
        for part, chosen in (("usual", ~rare), ("rare", rare)):
            result["support", name, part] = error * chosen[:, None]
    return result
