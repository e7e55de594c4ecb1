"""How usual the interventions of an evaluation are."""

import pytest
import torch

from dscm.causal.support import RARE, Support
from dscm.evaluation.statistics import mean_over, summarise
from dscm.evaluation.support import rank_interventions, split_by_support
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
    ranks = rank_interventions(support, GRAPH, task, seed=0)
    assert ranks.keys() == {"thickness", "null", "usual"} and all(rank.shape == (40,) for rank in ranks.values())
    assert ranks["thickness"].max() == 0 and (ranks["usual"] > RARE).float().mean() > 0.9
    assert torch.equal(ranks["null"], support.quantile(obs))
    alone = support.quantile(obs | {"thickness": near})  # intensity would not follow
    assert ranks["usual"].mean() > alone.mean()


def test_errors_are_split_where_the_parents_are_rare() -> None:
    """Of four images that change two are rare: their error is 3, that of the others 1, and one that stays is none."""
    obs = GRAPH.scm().sample(5, torch.Generator().manual_seed(0)) | {"image": torch.zeros(5, 1, 4, 4)}
    task = Task(obs, {"thickness": {"thickness": obs["thickness"]}}, {}, {})
    changed = torch.tensor([True, True, True, True, False])
    errors = mean_over(torch.tensor([1.0, 1.0, 3.0, 3.0, 99.0]), changed)
    path = ("effectiveness", "thickness", "thickness", "changed_mape")
    ranks = {"thickness": torch.tensor([0.5, RARE, 0.0, RARE / 2, 0.9])}
    found = split_by_support({path: errors}, ranks, GRAPH, task)
    means = {key[-1]: summarise(key[-1], value).item() for key, value in found.items()}
    assert means == pytest.approx({"rare_share": 0.4, "usual": 1.0, "rare": 3.0})
