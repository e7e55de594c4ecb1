"""Bins of values, by hand."""

import torch

from dscm.evaluation.bins import bin_edges, group_values

F64 = torch.float64


def test_edges_are_the_means_within_nine_equal_intervals() -> None:
    """0 to 9 fall one by one into the intervals [0, 1), [1, 2), …, and 8 and 9 into the last."""
    values = torch.arange(10)
    expected = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8.5], dtype=F64)
    torch.testing.assert_close(bin_edges(values), expected, rtol=0, atol=1e-12)
    assert group_values(values.float(), values, discrete=False).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 8, 9]
    assert group_values(torch.tensor([-1.0, 8.6, 100.0]), values, discrete=False).tolist() == [0, 9, 9]


def test_an_empty_interval_has_no_edge() -> None:
    """Neither have equal values more than one."""
    values = torch.tensor([0.0, 0.5, 9.0])
    torch.testing.assert_close(bin_edges(values), torch.tensor([0.25, 9.0], dtype=F64))
    assert group_values(values, values, discrete=False).tolist() == [0, 1, 2]
    assert bin_edges(torch.full((4,), 3.0)).tolist() == [3.0]


def test_classes_are_their_own_groups() -> None:
    digit = torch.tensor([7, 0, 7])
    assert torch.equal(group_values(digit, torch.arange(10), discrete=True), digit)
