"""Further training by pairs of images: what it optimises, and what counts."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.objective import SMALL, predict_clean
from dscm.graphs import get_graph
from dscm.training.example import ALIKE, Example, miss_pairs, orient
from dscm.training.obedience import Keeping
from dscm.training.trainer import list_arguments
from tests.support.networks import GRAPH, PARENTS, X, make

ARGUMENTS = {"p_null": 0.0, "beta": 0.1}
LIKE = torch.tensor([0, 1, 2, 0, 4, 5])  # 0 and 3 are a pair


def change(rows: slice) -> Tensor:
    """Return the images, brighter in some rows."""
    changed = X.clone()
    changed[:, :, rows] += 0.5
    return changed


def test_of_a_pair_the_other_image_is_the_truth() -> None:
    """Under its parents, from one noised image; one without a partner does not count."""
    model, partner, spread = make().requires_grad_(True), [3, 1, 2], (X - X[[3, 1, 2, 0, 4, 5]]).abs()
    terms = Example(model, 0.3)(X, PARENTS, torch.Generator().manual_seed(0), LIKE, spread, **ARGUMENTS)
    generator = torch.Generator().manual_seed(0)
    own = model(X, PARENTS, generator, like=LIKE, **ARGUMENTS)
    pa = model.scaling(PARENTS)
    z = model.encode(X[:3], pa[:3])
    conditions = model.condition(z, pa[:3]), model.condition(z, pa[partner])
    predicted = predict_clean(model.eps, conditions, X[:3], model.schedule, generator, SMALL)
    missed = miss_pairs(*(x[:1] for x in (*predicted, X, X[partner], spread)))
    torch.testing.assert_close(terms["missed"], missed.detach())
    torch.testing.assert_close(terms["loss"], own["loss"] + 0.3 * 64 * terms["missed"])


def test_what_pairs_miss_is_known() -> None:
    """0 for the two images, 1 for one of them twice, λ of what changes besides; no pair misses nothing."""
    truth = change(slice(0, 2))
    spread = truth - X
    assert miss_pairs(X, truth, X, truth, spread) == 0
    torch.testing.assert_close(miss_pairs(X, X, X, truth, spread).item(), 1.0)
    torch.testing.assert_close(miss_pairs(X, change(slice(0, 4)), X, truth, spread).item(), ALIKE)
    some = torch.cat([spread[:2], torch.zeros_like(X[:2])])
    torch.testing.assert_close(miss_pairs(X[:4], X[:4], X[:4], truth[:4], some).item(), 1.0)
    value = X.clone().requires_grad_()
    alone = miss_pairs(value, X.roll(1, 0), X, X, torch.zeros_like(X))
    alone.backward()
    assert alone == 0 and value.grad is not None and not value.grad.any()


def test_what_others_of_the_group_lack_must_be_kept() -> None:
    """Of two things that a group differs in, letting both fade misses half, as letting neither does."""
    both, without = change(slice(0, 4)), change(slice(2, 4))  # which lacks the first of two things
    spread = both - X
    for wrong in (X, both):
        torch.testing.assert_close(miss_pairs(both, wrong, both, without, spread).item(), 0.5)
    assert miss_pairs(both, without, both, without, spread) == 0


def test_pairs_are_turned_to_where_less_is_there() -> None:
    """A marker can be taken from an image, but none added that it does not show; other attributes may go either way."""
    variables = get_graph("embed").attributes
    pairs = [((1, 0), (0, 0)), ((0, 0), (1, 0)), ((1, 1), (0, 1)), ((1, 0), (0, 1)), ((1, 0), (1, 0)), ((0, 1), (0, 1))]
    columns = torch.tensor(pairs).transpose(0, 1).flatten(0, 1)
    parents = {v.name: torch.zeros(12, dtype=torch.long) for v in variables}
    parents |= {"circle marker": columns[:, 0], "triangle marker": columns[:, 1], "density": torch.arange(12)}
    like = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 11])  # the last two are no pair
    own, other = orient(like, parents, variables)
    assert own.tolist() == [0, 7, 2, 9, 4, 5] and other.tolist() == [6, 1, 8, 9, 10, 5]


@pytest.mark.parametrize("keeps", [False, True])
def test_it_takes_what_its_mechanism_takes(keeps: bool) -> None:
    """And the pairs, also where codes are kept besides."""
    model = make()
    objective = Example(model, 0.3)
    whole = Keeping(objective, model, GRAPH.scm(), [("digit",)], 0.1) if keeps else objective
    assert list_arguments(whole) >= list_arguments(model) | {"like", "spread"}
