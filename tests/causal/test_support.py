"""What training data said of the parents: calibrated, and blind neither to gaps nor to combinations."""

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dscm.causal.support import CENTRAL, RARE, Support, choose_bandwidths, encode, summarise
from dscm.causal.variables import Variable
from dscm.graphs import get_graph

X, Y = (Variable(name, "continuous", (), -math.inf, math.inf) for name in "xy")
HUE = Variable("hue", "circular", (), 0, 1)
HAT = Variable("hat", "binary", (), 0, 1)
KIND = Variable("kind", "categorical", (), 0, 2)
MIXED = (X, Y, HUE, HAT, KIND)


def seeded(seed: int = 0) -> torch.Generator:
    """Make a generator."""
    return torch.Generator().manual_seed(seed)


def draw(n: int, seed: int) -> dict[str, Tensor]:
    """Draw dependent values of every kind: y follows x, hues surround red, and the class decides how skewed x is."""
    generator = seeded(seed)
    kind = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), n, replacement=True, generator=generator)
    x = (torch.randn(n, generator=generator) * (0.2 + 0.2 * kind)).exp()
    y = x + 0.1 * torch.randn(n, generator=generator)
    hue = (0.1 * torch.randn(n, generator=generator)) % 1
    hat = (torch.rand(n, generator=generator) < 0.05 + 0.4 * (x > 1)).long()
    return {"x": x, "y": y, "hue": hue, "hat": hat, "kind": kind}


@pytest.fixture(scope="module")
def support() -> Support:
    """The support of mixed data."""
    return Support.fit(MIXED, draw(600, 0), seeded())


def some(support: Support, **values: float) -> dict[str, Tensor]:
    """Return a usual value of each variable, with changes."""
    usual = {"x": 1.0, "y": 1.0, "hue": 0.0, "hat": 0, "kind": 0} | values
    return {v.name: torch.tensor([usual[v.name]]) for v in support.variables}


def test_quantiles_are_uniform_over_data_like_the_training_data(support: Support) -> None:
    """Jointly, and of each variable given the others, classes aside."""
    fresh = draw(1000, 1)
    for ranks in (support.quantile(fresh), *(support.each(fresh)[name] for name in ("x", "y", "hue"))):
        even = torch.arange(1, 1001) / 1000
        assert (ranks.sort().values - even).abs().max() < 0.1
        assert (ranks < RARE).float().mean() < 2.5 * RARE


def test_classes_have_the_share_of_what_is_no_more_frequent() -> None:
    """Known by hand: of four combinations with 50, 30, 15 and 5%."""
    hat, kind = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    times = torch.tensor([50, 30, 15, 5])
    support = Support.fit(
        (HAT, KIND), {"hat": hat.repeat_interleave(times), "kind": kind.repeat_interleave(times)}, seeded()
    )
    assert support.quantile({"hat": hat, "kind": kind}).tolist() == pytest.approx([1, 0.5, 0.2, 0.05])
    assert support.quantile({"hat": torch.tensor([1]), "kind": torch.tensor([2])}).item() == 0
    assert support.n == 100 and len(support.rows) == 4


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        ({"x": 40.0, "y": 40.0}, {"x", "y"}),  # beyond the range
        ({"x": 1.3, "y": 0.7}, {"x", "y"}),  # each usual by itself
        ({"hue": 0.5}, {"hue"}),
        ({"x": 0.05, "y": 0.05}, {"x", "y", "kind"}),  # on the short side of a skewed variable, for this class
    ],
)
def test_what_is_off_the_support_is_rare_and_has_an_odd_variable(
    support: Support, change: dict[str, float], odd: set[str]
) -> None:
    assert support.quantile(some(support)).item() > 0.9
    values = some(support, **change)
    assert support.quantile(values).item() < 0.03
    assert set(support.odd(values)) <= odd
    assert min(support.each(values), key=lambda name: support.each(values)[name].item()) in odd


def test_a_gap_between_two_clusters_is_off_the_support() -> None:
    """Though it lies within the range and near the mean."""
    x = torch.randn(400, generator=seeded()) / 4 + torch.tensor([-3.0, 3.0]).repeat(200)
    support = Support.fit((X,), {"x": x}, seeded())
    assert (support.quantile({"x": torch.tensor([-3.0, 3.0])}) > 0.5).all()
    assert support.quantile({"x": torch.tensor([0.0, 9.0, -9.0])}).max() == 0
    assert not support.outside({"x": torch.tensor([0.0])})["x"].any()


def test_the_circle_goes_around(support: Support) -> None:
    values = [support.quantile(some(support, hue=hue)).item() for hue in (0.02, 1.02, -0.98)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-3)
    low, high = support.range("hue")
    assert low > 0.5 and high - low < 0.9  # from before red to after it
    hues = {**draw(5, 0), "hue": torch.tensor([0.0, 0.1, 0.5, 0.9, 1.1])}
    assert support.outside(hues)["hue"].tolist() == [False, False, True, False, False]


def test_ranges_and_central_parts_are_those_of_the_data() -> None:
    x, kind = torch.arange(1001.0), torch.tensor([0, 1]).repeat_interleave(torch.tensor([996, 5]))
    support = Support.fit((X, KIND), {"x": x, "kind": kind}, seeded())
    assert support.range("x") == (0, 1000)
    values = {"x": torch.tensor([-1.0, 0.0, 4.0, 6.0, 996.0, 1000.5]), "kind": torch.tensor([0, 0, 1, 1, 2, 2])}
    outside, rare = support.outside(values), support.outside(values, CENTRAL)
    assert outside["x"].tolist() == [True, False, False, False, False, True]
    assert rare["x"].tolist() == [True, True, True, False, True, True]
    assert outside["kind"].tolist() == [False, False, False, False, True, True]
    assert rare["kind"].tolist() == [False, False, True, True, True, True]


def test_each_side_of_the_median_has_its_own_standard_deviation() -> None:
    """So that both sides of a skewed variable are resolved; on the circle and of classes nothing changes."""
    x = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 9, 20]).repeat_interleave(100)
    marginal = summarise(X, x)
    assert marginal[[0, 2, 3, 4, 6]].tolist() == [0, 1, 4, 9, 20]
    values = {
        "x": torch.tensor([-2.0, 1.0, 4.0, 9.0, 14.0]),
        "hue": torch.full((5,), 1.25),
        "kind": torch.arange(5) % 3,
    }
    rows = encode((X, HUE, KIND), values, {"x": marginal})
    assert rows.T.tolist() == [[-2, -1, 0, 1, 2], [0.25] * 5, [0, 1, 2, 0, 1]]


def test_outliers_widen_no_kernel() -> None:
    """Of 200 values, four far ones have no say in the width."""
    x = torch.randn(196, 1, generator=seeded())
    far = torch.cat([x, torch.tensor([[50.0], [-80.0], [200.0], [900.0]])])
    widths = [choose_bandwidths((X,), rows, torch.ones(len(rows), dtype=torch.long)) for rows in (x, far)]
    assert widths[0] == widths[1] and 0.1 < widths[0][0] < 0.7


def test_units_do_not_matter() -> None:
    """Seconds or years."""
    data, queries = draw(300, 0), draw(100, 1)
    ranks = [
        Support.fit((X, Y), {"x": scale * data["x"], "y": scale * data["y"]}, seeded()).quantile(
            {"x": scale * queries["x"], "y": scale * queries["y"]}
        )
        for scale in (1, 3e7)
    ]
    assert torch.allclose(*ranks, atol=0.01)


def test_interventions_on_digits() -> None:
    """Thickness of 9.5 px with a slant of 1.2 rad is told from values that the graph draws, whatever the digit."""
    graph = get_graph("morphomnist")
    data, ordinary = (graph.scm().sample(n, seeded(seed)) for n, seed in ((600, 0), (300, 1)))
    support = Support.fit(graph.attributes, data, seeded())
    far = ordinary | {"thickness": torch.full((300,), 9.5), "slant": torch.full((300,), 1.2)}
    assert support.quantile(far).max() == 0 and (support.quantile(ordinary) > 0).float().mean() > 0.98
    assert set(support.odd(far)) <= {"thickness", "slant"}


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0, 2.0], [0.0] * 30 + [1.0, 2.0, 3.0], [0.0, 1e30]])
def test_few_or_equal_values_do_no_harm(values: list[float]) -> None:
    """What was seen is not off the support."""
    support = Support.fit((X,), {"x": torch.tensor(values)}, seeded())
    ranks = support.quantile({"x": torch.tensor(values)})
    assert ranks.isfinite().all() and (ranks > 0).all()
    assert support.odd({"x": torch.tensor([-7.0])}) == ["x"]


def test_no_values(support: Support) -> None:
    """An empty batch has no quantiles."""
    empty = {name: value[:0] for name, value in draw(2, 0).items()}
    assert support.quantile(empty).shape == (0,) and support.odd(empty) == []


def test_a_state_restores_it_bit_by_bit_and_is_small() -> None:
    """Of any number of training images."""
    support = Support.fit((X, KIND), draw(5000, 0), seeded())
    file = io.BytesIO()
    torch.save(support.state(), file)
    assert len(file.getvalue()) < 50_000 and len(support.rows) <= 2048
    file.seek(0)
    again, fresh = Support.from_state(MIXED, torch.load(file, weights_only=True)), draw(50, 2)
    assert again.n == 5000 and torch.equal(again.quantile(fresh), support.quantile(fresh))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", ["x", "nonsense"]),
        ("names", []),
        ("rows", torch.zeros(3, 2)),
        ("rows", 5),
        ("rows", torch.full((4, 2), math.nan)),
        ("counts", torch.tensor([1, 0, 1, 1])),
        ("counts", torch.zeros(0)),
        ("bandwidths", [0.1]),
        ("bandwidths", [0.1, -1.0]),
        ("bandwidths", [0.1, math.nan]),
        ("marginals", {"x": torch.zeros(7)}),
        ("marginals", {"x": torch.zeros(3), "hat": torch.ones(2)}),
        ("n", "many"),
    ],
)
def test_damaged_states_are_refused(name: str, value: Any) -> None:
    data = {"x": torch.tensor([0.0, 1.0, 2.0, 3.0]), "hat": torch.tensor([0, 1, 0, 1])}
    state = Support.fit((X, HAT), data, seeded()).state()
    Support.from_state((X, HAT), state)
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Support.from_state((X, HAT), state | {name: value})
