"""Rare attributes are drawn more often, within a bound, and the same batch comes for the same seed and step."""

import pytest
import torch
from torch import Tensor

from dscm.errors import InputError
from dscm.training.balance import MOST, SHARE, balance, find_rare, find_weights, make_independent
from dscm.training.schedule import draw_batch


def mark(n: int, *ones: int) -> Tensor:
    """Make an attribute of n images that is 1 in the images ``ones``."""
    value = torch.zeros(n, dtype=torch.int64)
    value[list(ones)] = 1
    return value


@pytest.mark.parametrize("flip", [False, True])
def test_one_attribute_reaches_its_share(flip: bool) -> None:
    """Whichever value is the rare one: of 100 images, 10 have it; odds of 3 to 7 take (3/7)·9 times as many draws."""
    value = mark(100, *range(10))
    weights = find_weights({"a": 1 - value if flip else value}, ["a"])
    assert weights.mean().item() == pytest.approx(1) and len(weights.unique()) == 2
    assert (weights[0] / weights[50]).item() == pytest.approx(3 / 7 * 9)
    rare, share = find_rare(1 - value if flip else value, weights)
    assert rare == (not flip) and share == pytest.approx(SHARE)


def test_weights_are_bounded_and_what_is_common_is_left_alone() -> None:
    """One image of 1,000 is drawn ten times as often as the others; one that is rare twice over no more than that."""
    data = {"rare": mark(1000, 0), "also": mark(1000, 0, 1), "common": mark(1000, *range(0, 1000, 2))}
    weights = find_weights(data, [*data])
    assert (weights / weights[5]).tolist() == pytest.approx([MOST, MOST, *[1] * 998])
    assert torch.equal(balance(data, ["common"]), torch.ones(1000, dtype=torch.float64))
    with pytest.raises(InputError, match="balance a: is 0 in every image"):
        find_weights({"a": mark(5)}, ["a"])


def test_an_epoch_holds_each_image_as_often_as_its_weight_says() -> None:
    """Rounded down or up in every epoch, and exactly on average; duplicates are spread, so that batches differ."""
    weights = find_weights({"a": mark(60, 3, 30, 59)}, ["a"])
    counts = torch.stack(
        [torch.cat([draw_batch(60, 10, 6 * epoch + s, 1, weights) for s in range(1, 7)]).bincount(minlength=60)
         for epoch in range(400)]
    ).double()  # fmt: skip
    assert counts.sum(dim=1).eq(60).all()
    assert (counts >= weights.floor()).all() and (counts <= weights.ceil()).all()
    assert (counts.mean(dim=0) - weights).abs().max() < 0.1  # four standard errors of a fair coin


def test_batches_depend_on_seed_and_step_alone() -> None:
    """In whichever order they are drawn; equal weights draw what no weights draw."""
    weights, other = find_weights({"a": mark(50, 1, 2)}, ["a"]), torch.ones(50, dtype=torch.float64)
    forwards = [draw_batch(50, 8, step, 3, weights) for step in range(1, 20)]
    draw_batch(50, 8, 4, 9, other)
    backwards = [draw_batch(50, 8, step, 3, weights.clone()) for step in range(19, 0, -1)]
    assert all(torch.equal(one, two) for one, two in zip(forwards, reversed(backwards)))
    assert not torch.equal(forwards[0], draw_batch(50, 8, 1, 4, weights))
    assert all(torch.equal(draw_batch(50, 8, s, 3, other), draw_batch(50, 8, s, 3)) for s in (1, 7, 20))


def test_balancing_leaves_the_image_given_its_parents_alone() -> None:
    """Of two images with the same attributes each is drawn as often: p(x | pa) stays, and p(pa) alone changes."""
    generator = torch.Generator().manual_seed(0)
    data = {name: (torch.rand(500, generator=generator) < 0.1).long() for name in ("a", "b", "c")}
    weights = find_weights(data, ["a", "b"])
    cells = data["a"] + 2 * data["b"] + 4 * data["c"]
    assert all(len(weights[cells == cell].unique()) == 1 for cell in cells.unique())
    assert (
        weights[(data["a"] == 1) & (data["c"] == 0)].unique().tolist()
        == weights[(data["a"] == 1) & (data["c"] == 1)].unique().tolist()
    )


def draw_dependent(n: int = 4000) -> dict[str, Tensor]:
    """Draw classes of which b and c (of three values) mostly go with a, d with b, and a number."""
    generator = torch.Generator().manual_seed(1)
    a = (torch.rand(n, generator=generator) < 0.1).long()
    b = torch.where(torch.rand(n, generator=generator) < 0.7, a, 1 - a)
    c = torch.where(torch.rand(n, generator=generator) < 0.3, 2 * a, torch.randint(3, (n,), generator=generator))
    d = torch.where(torch.rand(n, generator=generator) < 0.9, b, 1 - b)
    return {"a": a, "b": b, "c": c, "d": d, "x": torch.rand(n, generator=generator)}


def shares(data: dict[str, Tensor], one: str, other: str, weights: Tensor) -> Tensor:
    """Return p_w(one, other)."""
    table = torch.zeros(3, 3, dtype=torch.float64)
    return table.index_put((data[one], data[other]), weights, accumulate=True) / weights.sum()


def test_what_is_set_becomes_independent_of_other_classes_and_nothing_else_does() -> None:
    data = draw_dependent()
    equal = torch.ones(4000, dtype=torch.float64)
    weights = make_independent(data, [["a"]], equal)
    assert weights.mean().item() == pytest.approx(1) and weights.min() >= 1 / MOST and weights.max() <= 1.01 * MOST
    for other in "bcd":
        joint = shares(data, "a", other, weights)
        product = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
        assert (joint - product).abs().max() < 1e-3 < (shares(data, "a", other, equal) - product).abs().max()
        for dim in (0, 1):
            kept, before = (shares(data, "a", other, w).sum(dim=dim) for w in (weights, equal))
            assert (kept - before).abs().max() < 1e-3, "the share of each class stays"
    joint = shares(data, "b", "d", weights)
    assert (joint - joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)).abs().max() > 0.1


def test_what_is_set_together_may_depend_and_the_image_given_its_parents_is_left_alone() -> None:
    data = draw_dependent()
    weights = find_weights(data, ["a"], [["a", "b"], ["d"]])
    joint = shares(data, "a", "b", weights)
    assert (joint - joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)).abs().max() > 0.05
    assert weights[data["a"] == 1].sum() > 2 * (data["a"] == 1).sum(), "it begins with the weights of a rare class"
    cells = data["a"] + 2 * data["b"] + 4 * data["c"] + 12 * data["d"]
    assert all(weights[cells == cell].std(correction=0) < 1e-12 for cell in cells.unique())


def test_where_the_bounds_bite_shares_are_kept() -> None:
    """Of 1,000 images 22 are a, 17 of them b, as 500 are: no weight is extreme, and some dependence is left."""
    i = torch.arange(1000)
    data = {"a": (i < 22).long(), "b": ((i < 17) | (i >= 517)).long()}
    data["b"][20:22] = 0
    weights = make_independent(data, [["a"]], torch.ones(1000, dtype=torch.float64))
    for name in data:
        assert (weights * data[name]).sum() / weights.sum() == pytest.approx(
            data[name].double().mean().item(), abs=1e-6
        )
    assert weights.max() < 2 * MOST and weights.min() > 0.5 / MOST


def test_classes_that_never_come_together_stay_apart() -> None:
    """And finite: of 100 images 50 are a, the others b."""
    a = (torch.arange(100) < 50).long()
    weights = make_independent({"a": a, "b": 1 - a}, [["a"]], torch.ones(100, dtype=torch.float64))
    assert torch.allclose(weights, torch.ones(100, dtype=torch.float64))


@pytest.mark.parametrize("groups", [[["x"]], [["a", "b", "c", "d"]], [["e"]]])
def test_without_two_classes_nothing_can_become_independent(groups: list[list[str]]) -> None:
    with pytest.raises(InputError, match="independent on: no intervention sets a class beside which there is another"):
        find_weights(draw_dependent(), [], groups)
