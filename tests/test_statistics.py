"""Bootstrap intervals with known answers."""

import pytest
import torch

from dscm.statistics import bootstrap_interval


def test_interval_is_that_of_the_mean() -> None:
    """Of normal values it is the mean give or take 1.96 standard errors."""
    values = 3 + torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_interval(values).tolist()
    error = values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.2 * error)


def test_columns_are_treated_alike_and_the_seed_counts() -> None:
    values = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    together = bootstrap_interval(values)
    assert together.shape == (2, 3) and together.dtype == values.dtype
    for column in range(3):
        assert torch.allclose(together[:, column], bootstrap_interval(values[:, column]))
    assert not torch.equal(together, bootstrap_interval(values, seed=1))


def test_a_paired_difference_is_sharper_than_its_parts() -> None:
    """Two rows on the same images share what makes an image hard."""
    hard = 10 * torch.rand(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, high = bootstrap_interval((hard + 0.1) - hard).tolist()
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)
    low, high = bootstrap_interval(hard).tolist()
    assert high - low > 0.5


def test_one_constant_value_has_no_width() -> None:
    assert bootstrap_interval(torch.full((7,), 0.25)).tolist() == [0.25, 0.25]
