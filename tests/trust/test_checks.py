"""Checks of answers that are known on paper."""

import pytest
import torch
from torch import Tensor

from dscm.causal.support import Support
from dscm.causal.variables import Variable
from dscm.trust.checks import MISSED, MOVED, OFF, UNLIKE, Change, Checks, Origin, Readings, check_answers, check_origin
from dscm.trust.reference import Gauge, Reference, make_gauges

SIZE = Variable("size", "positive", (), 0, 100, "px")
COLOUR = Variable("colour", "circular", (), 0, 1)
KIND = Variable("kind", "binary", (), 0, 1)
GAUGES = {"size": Gauge(SIZE, 1.0), "kind": Gauge(KIND, 0.0)}
OBS = {"size": torch.tensor([2.0, 2.0, 2.0]), "kind": torch.tensor([0, 0, 1])}


def check(after: dict[str, Tensor], gauges: dict[str, Gauge] = GAUGES) -> Checks:
    """Check do(size=5) of three images, whose attributes are read as ``after``."""
    values = {**OBS, "size": torch.full((3,), 5.0)}
    readings, change = Readings(OBS, after, {}), Change(torch.full((3,), 0.1), torch.full((3,), 0.2), True)
    reference = Reference(identity={"size": torch.arange(1.0, 200.0) / 1000})
    origin = Origin(torch.tensor([0.5, 0.5, 0.001]), ["", "", "u"])
    asked = (origin, ({"size"}, "total"), ["size", "kind"])
    return check_answers(None, reference, gauges, *asked, OBS, values, readings, change)


def none(n: int) -> Change:
    """Change nothing."""
    return Change(torch.zeros(n), torch.zeros(n), False)


def test_targets_are_met_or_missed_and_the_others_stay_or_move() -> None:
    """Within the tolerance, in units of it; a class by itself has no units."""
    found = check({"size": torch.tensor([5.9, 6.5, 5.0]), "kind": torch.tensor([0, 1, 1])})
    assert found.missed == [[], ["size"], []] and found.moved == [[], ["kind"], []]
    assert torch.allclose(found.errors["size"], torch.tensor([0.9, 1.5, 0.0])) and "kind" not in found.errors
    assert found.marks == [[], [MISSED, MOVED], [UNLIKE]]
    assert found.doubtful.tolist() == [False, True, True] and found.doubt[1] > found.doubt[0]
    assert found.identity_rank is not None and found.identity_rank[0].item() == pytest.approx(101 / 200)


def test_a_reading_that_was_wrong_before_is_no_side_effect() -> None:
    """An image that was recorded as kind 1 and is read as 0, before and after."""
    readings = Readings({**OBS, "kind": torch.tensor([0, 0, 0])}, {"kind": torch.tensor([0, 0, 0])}, {})
    asked = (Origin(odd=[""] * 3), ({"size"}, "total"), ["kind"])
    values, change = {**OBS, "size": torch.full((3,), 5.0)}, none(3)
    assert check_answers(None, None, GAUGES, *asked, OBS, values, readings, change).moved == [[], [], []]


def test_what_has_no_gauge_is_not_judged() -> None:
    found = check({"size": torch.full((3,), 99.0), "kind": torch.ones(3)}, {})
    assert found.missed == found.moved == [[], [], []] and found.errors == {}


def test_off_the_support_says_what_is_odd() -> None:
    generator = torch.Generator().manual_seed(0)
    data = {"size": 2 + torch.rand(500, generator=generator), "kind": torch.randint(0, 2, (500,), generator=generator)}
    support = Support.fit([SIZE, KIND], data, generator)
    values = {"size": torch.tensor([2.5, 9.0]), "kind": torch.tensor([0, 1])}
    obs = {"size": torch.tensor([2.2, 2.2]), "kind": torch.tensor([0, 1])}
    asked = (Origin(odd=["", ""]), ({"size"}, "total"), [])
    found = check_answers(support, None, {}, *asked, obs, values, Readings({}, {}, {}), none(2))
    assert found.marks == [[], [OFF]] and found.odd[1].startswith("size above 3") and found.odd[1].endswith(" px")


def test_spread_of_particles() -> None:
    """In raw units, around the circle, and of classes the share of the others."""
    several = {"size": torch.tensor([[1.0], [3.0]]), "kind": torch.tensor([[0], [1], [1], [1]])}
    several["colour"] = torch.tensor([[0.99], [0.01]])
    gauges = {**GAUGES, "colour": Gauge(COLOUR, 0.1)}
    readings, asked = Readings({}, {}, several), (Origin(odd=[""]), ({"size"}, "total"), [])
    found = check_answers(None, None, gauges, *asked, {}, {}, readings, none(1)).spread
    assert found["size"].item() == pytest.approx(2**0.5) and found["kind"].item() == 0.25
    assert found["colour"].item() == pytest.approx(0.01, rel=0.05)


def test_numbers_of_a_reference_hold_under_its_settings_alone() -> None:
    reference = Reference(composition=torch.arange(199.0))
    x = torch.tensor([198.5])
    for suits, rank in (((True, True), 0.005), ((True, False), None)):
        found = check_origin(reference, suits, {}, x, 1).composition_rank
        assert found is None if rank is None else found is not None and found.item() == pytest.approx(rank)
    assert check_origin(None, (False, False), {}, None, 2).odd == ["", ""]


def test_gauges_take_the_larger_of_own_error_and_medium_effect() -> None:
    data = {"size": torch.linspace(0, 10, 1001), "kind": torch.ones(1001).long()}
    support = Support.fit([SIZE, KIND], data, torch.Generator().manual_seed(0))
    sharp, dull = (Reference(errors={"size": torch.linspace(0, top, 101)}) for top in (0.1, 10.0))
    for reference, tolerance in ((sharp, 0.5 * 3.4135), (dull, 9.9)):
        assert make_gauges([SIZE], [None, reference], support)["size"].tolerance == pytest.approx(tolerance, rel=1e-2)
    assert make_gauges([SIZE, KIND], [None], None).keys() == {"kind"}
    assert Gauge(COLOUR, 0.05).agree(torch.tensor([0.98]), torch.tensor([0.02])).all()


def test_batches_join() -> None:
    one = check({"size": torch.full((3,), 5.0), "kind": OBS["kind"]})
    both = Checks.join([one, one])
    assert len(both) == 6 and both.marks == one.marks * 2 and both.support is None
    assert torch.equal(both.errors["size"], torch.cat([one.errors["size"]] * 2)) and len(both.origin.odd) == 6
