"""Bootstrap intervals with known answers."""

import pytest
import torch

from dscm.statistics import bootstrap_interval, summarise


def test_interval_is_that_of_the_mean() -> None:
    """Of normal values it is the mean give or take 1.96 standard errors."""
    values = 3 + torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_interval("l1", values).tolist()
    error = values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.2 * error)


def test_columns_are_treated_alike_and_the_seed_counts() -> None:
    values = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    together = bootstrap_interval("l1", values)
    assert together.shape == (2, 3) and together.dtype == torch.float64
    for column in range(3):
        assert torch.allclose(together[:, column], bootstrap_interval("l1", values[:, column]))
    assert not torch.equal(together, bootstrap_interval("l1", values, seed=1))


def test_a_paired_difference_is_sharper_than_its_parts() -> None:
    """Two rows on the same images share what makes an image hard."""
    hard = 10 * torch.rand(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, high = bootstrap_interval("l1", hard + 0.1, hard).tolist()
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)
    low, high = bootstrap_interval("l1", hard).tolist()
    assert high - low > 0.5


def test_f1_is_made_from_all_images_and_so_is_its_interval() -> None:
    """Of 100 images half are hits, a tenth false and a tenth missed: F1 = 1/(1 + 0.2); never a mean of F1s."""
    cells = torch.zeros(100, 3)
    cells[:50, 0], cells[50:60, 1], cells[60:70, 2] = 1, 1, 1
    f1 = summarise("f1", cells).item()
    assert f1 == pytest.approx(1 / 1.2)
    low, high = bootstrap_interval("f1", cells).tolist()
    assert low < f1 < high and high - low < 0.2
    better = cells.clone()
    better[50:60, 1] = 0
    low, high = bootstrap_interval("f1", better, cells).tolist()
    assert 0 < low < 1 / 1.1 - 1 / 1.2 < high


def test_one_constant_value_has_no_width() -> None:
    assert bootstrap_interval("l1", torch.full((7,), 0.25)).tolist() == pytest.approx([0.25, 0.25])
