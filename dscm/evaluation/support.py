"""On which part of the training data's support the interventions of an evaluation lie."""

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.causal.support import Support
from dscm.evaluation.task import Task


@torch.no_grad()
def rank_interventions(
    support: Support, graph: Graph, task: Task, learned: LearnedAttributes | None = None
) -> dict[str, Tensor]:
    """Return how usual the counterfactual parents of each image are under each intervention.

    Args:
        support: what the training data said of the parents, as a checkpoint carries it.
        graph: the causal graph.
        task: the images and the interventions.
        learned: the learned mechanisms of the attributes, where the graph has any.

    Returns:
        By intervention, the quantiles of `Support.quantile`, (N,), and those of the factual parents under "". The noise
        that an observation leaves undetermined is the posterior's median.
    """
    scm = graph.scm(learned=learned)
    noise = scm.abduct(task.obs)
    parents = {"": task.obs} | {name: scm.predict(noise, do) for name, do in task.interventions.items()}
    return {name: support.quantile(values) for name, values in parents.items()}
