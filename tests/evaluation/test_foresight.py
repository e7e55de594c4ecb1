"""Measures of measures, on numbers that are known on paper."""

import pytest
import torch

from dscm.evaluation.foresight import ALL, LEAST, area_under_curve, catch_worst, correlate_ranks, foretell, rank


def test_ties_share_their_rank() -> None:
    assert rank(torch.tensor([5.0, 1.0, 5.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_any_monotone_function_correlates_perfectly() -> None:
    x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert correlate_ranks(x, x.exp()) == pytest.approx(1) and correlate_ranks(x, -x.pow(3)) == pytest.approx(-1)


def test_the_error_itself_catches_all_and_a_constant_as_many_as_chance() -> None:
    error = torch.arange(100.0)
    assert catch_worst(error, error) == 1 and catch_worst(-error, error) == 0
    assert catch_worst(torch.zeros(100), error) == pytest.approx(0.1)
    half = torch.where(error >= 95, 1.0, 0.0)  # five of the ten, and five others at random among 95
    assert catch_worst(half, error) == pytest.approx((5 + 5 * 5 / 95) / 10)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    usual, foreign = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0])
    assert area_under_curve(usual, foreign) == pytest.approx((1 + 0.5 + 3) / 6)
    assert area_under_curve(usual, usual) == pytest.approx(0.5) and area_under_curve(usual, usual + 9) == 1


def test_measures_are_compared_where_the_truth_is_known() -> None:
    """Of enough images; a mark has no order."""
    error = torch.arange(40.0)
    values = {("trust", do, name): error for do in ("thickness", "digit") for name in ("doubt", "marked")}
    values["truth", "thickness", "l1"] = error
    values["trust", "thickness", "marked"] = (error >= 37).double()  # three of the four worst, and none of the others
    found = foretell(values)
    assert not [key for key in found if key[1] == ALL]  # of one intervention there is nothing to join
    assert {key: value.item() for key, value in found.items()} == {
        ("foresight", "thickness", "doubt_correlation"): pytest.approx(1),
        ("foresight", "thickness", "doubt_caught"): 1,
        ("foresight", "thickness", "marked_worst"): 0.75,
        ("foresight", "thickness", "marked_rest"): 0,
    }
    assert not foretell({key: value[: LEAST - 1] for key, value in values.items()})


def test_all_interventions_are_compared_together() -> None:
    """A measure that orders the answers to each alone may not order them all."""
    error = torch.arange(40.0)
    values = {("truth", do, "l1"): error + shift for do, shift in (("thickness", 0.0), ("slant", 100.0))}
    values |= {("trust", do, "doubt"): error for do in ("thickness", "slant")}
    found = foretell(values)
    assert found["foresight", "slant", "doubt_correlation"].item() == pytest.approx(1)
    assert found["foresight", ALL, "doubt_correlation"].item() == pytest.approx(0.5, abs=0.01)
