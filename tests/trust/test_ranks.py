"""Ranks among validation images: what is promised of false alarms."""

import pytest
import torch

from dscm.trust.ranks import ALARM, how_usual


def test_ranks_count_what_is_as_large() -> None:
    """From 1 for what is below everything to 1 / (n + 1); ties and what is not a number count against the value."""
    reference = torch.tensor([1.0, 2.0, 2.0, 5.0])
    found = how_usual(reference, torch.tensor([0.0, 2.0, 2.5, 5.0, 9.0, torch.nan, torch.inf]))
    assert torch.equal(found * 5, torch.tensor([5.0, 4.0, 2.0, 2.0, 1.0, 1.0, 1.0]))


def test_false_alarms_keep_to_the_share_whatever_the_law() -> None:
    """Averaged over references, of a law with heavy tails; and never more of few images."""
    generator = torch.Generator().manual_seed(0)
    alarms = []
    for _ in range(400):
        table = torch.randn(250, generator=generator).abs().pow(6)
        alarms.append((how_usual(table[:200].sort().values, table[200:]) < ALARM).double().mean().item())
    mean = sum(alarms) / len(alarms)
    assert mean == pytest.approx(2 / 201, rel=0.1)
    assert not (how_usual(torch.arange(98.0), torch.tensor([1e9])) < ALARM).any()
