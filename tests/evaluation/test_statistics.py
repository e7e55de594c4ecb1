"""Bootstrap intervals with known answers."""

import pytest
import torch

from dscm.evaluation.statistics import bootstrap_interval, f1_terms, mean_over, summarise


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
    got, wanted = torch.zeros(100), torch.zeros(100)
    got[:60], wanted[:50], wanted[60:70] = 1, 1, 1
    terms = f1_terms(got, wanted)
    f1 = summarise("f1", terms).item()
    assert f1 == pytest.approx(1 / 1.2)
    low, high = bootstrap_interval("f1", terms).tolist()
    assert low < f1 < high and high - low < 0.2
    better = got.clone()
    better[50:60] = 0
    low, high = bootstrap_interval("f1", f1_terms(better, wanted), terms).tolist()
    assert 0 < low < 1 / 1.1 - 1 / 1.2 < high


def test_a_mean_over_some_images_forgets_the_others_and_is_undefined_without_any() -> None:
    values, chosen = torch.tensor([0.5, 9.0, 0.1, -9.0]), torch.tensor([True, False, True, False])
    assert summarise("removed", mean_over(values, chosen)).item() == pytest.approx(0.3)
    low, high = bootstrap_interval("removed", mean_over(values, chosen)).tolist()
    assert low == pytest.approx(0.1) and high == pytest.approx(0.5)  # draws without either are left out
    assert summarise("removed", mean_over(values, chosen & ~chosen)).isnan()


def test_one_constant_value_has_no_width() -> None:
    assert bootstrap_interval("l1", torch.full((7,), 0.25)).tolist() == pytest.approx([0.25, 0.25])


def test_f1_by_hand() -> None:
    """Two hits, one false alarm, one missed: F1 = 2·2/(2·2 + 1 + 1)."""
    got, wanted = torch.tensor([1, 1, 1, 0, 0]), torch.tensor([1, 1, 0, 1, 0])
    assert summarise("f1", f1_terms(got, wanted)).item() == pytest.approx(4 / 6)
    assert summarise("f1", f1_terms(got * 0, wanted * 0)).isnan()


def test_a_mean_of_ratios_weighs_each_alike() -> None:
    """Three of four additions and one of two removals: the mean is 5/8, whatever their numbers."""
    added = mean_over(torch.tensor([1, 1, 1, 0, 0, 0]), torch.tensor([1, 1, 1, 1, 0, 0]).bool())
    removed = mean_over(torch.tensor([0, 0, 0, 0, 1, 0]), torch.tensor([0, 0, 0, 0, 1, 1]).bool())
    assert summarise("balanced", torch.cat([added, removed], dim=1)).item() == 0.625


def test_metrics_of_changed_images_are_ratios() -> None:
    values, changed = torch.tensor([0.2, 0.9, 0.4]), torch.tensor([True, False, True])
    assert summarise("changed_mae", mean_over(values, changed)).item() == pytest.approx(0.3)
