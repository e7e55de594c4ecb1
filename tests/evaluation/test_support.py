"""How usual the interventions of an evaluation are."""

import torch

from dscm.causal.support import RARE, Support
from dscm.evaluation.support import rank_interventions
from dscm.evaluation.task import Task
from dscm.graphs import get_graph

GRAPH = get_graph("morphomnist")


def test_interventions_off_the_support_rank_last() -> None:
    """The counterfactual parents count, with what follows from the intervention; not the factual ones."""
    data, obs = (GRAPH.scm().sample(n, torch.Generator().manual_seed(n)) for n in (500, 40))
    support = Support.fit(GRAPH.attributes, data, torch.Generator().manual_seed(0))
    far, near = torch.full((40,), 9.5), torch.full((40,), 2.5)
    interventions = {"thickness": {"thickness": far}, "null": {}, "usual": {"thickness": near}}
    task = Task(obs | {"image": torch.zeros(40, 1, 4, 4)}, interventions, {}, {})
    ranks = rank_interventions(support, GRAPH, task)
    assert ranks.keys() == {"", "thickness", "null", "usual"} and all(rank.shape == (40,) for rank in ranks.values())
    assert ranks["thickness"].max() == 0 and (ranks["usual"] > RARE).float().mean() > 0.9
    assert torch.equal(ranks["null"], ranks[""]) and torch.equal(ranks[""], support.quantile(obs))
    alone = support.quantile(obs | {"thickness": near})  # intensity would not follow
    assert ranks["usual"].mean() > alone.mean()
