"""What changes from step to step: learning rate, β, and which images are drawn."""

import pytest
import torch

from dscm.training.schedule import Hyperparameters, draw_batch, step_seed


def test_the_learning_rate_rises_and_then_falls_as_one_over_the_root_of_the_step() -> None:
    """It is α·s/w up to step w, α up to step c, and α·√(c/s) from there."""
    plain = Hyperparameters(8, 0.02, warmup=200, cooling=1500)
    expected = {1: 0.0001, 100: 0.01, 200: 0.02, 700: 0.02, 1500: 0.02, 6000: 0.01, 24_000: 0.005, 150_000: 0.002}
    assert {step: plain.rate_at(step) for step in expected} == pytest.approx(expected)


def test_without_warm_up_and_cooling_the_learning_rate_is_constant() -> None:
    plain = Hyperparameters(8, 0.02)
    assert {plain.rate_at(step) for step in (1, 7, 1000, 10**6)} == {0.02}


def test_it_may_cool_before_it_is_warm() -> None:
    """The two factors are independent."""
    assert Hyperparameters(8, 1.0, warmup=100, cooling=25).rate_at(50) == pytest.approx(0.5 * (25 / 50) ** 0.5)


def test_beta_rises_linearly() -> None:
    warm = Hyperparameters(8, 0.02, beta=0.3, beta_warmup=1000)
    expected = {1: 0.0003, 250: 0.075, 1000: 0.3, 5000: 0.3}
    assert {step: warm.beta_at(step) for step in expected} == pytest.approx(expected)
    assert Hyperparameters(8, 0.02, beta=0.3).beta_at(1) == 0.3


def test_rates_keep_their_formulas_whatever_the_settings() -> None:
    """Of fifty settings and steps drawn from a seed."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        warmup, cooling, step, beta_warmup = (1 + torch.randint(1000, (4,), generator=generator)).tolist()
        peak, beta = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        drawn = Hyperparameters(8, peak, warmup, cooling, beta=beta, beta_warmup=beta_warmup)
        rise = step / warmup if step < warmup else 1.0
        fall = cooling**0.5 / step**0.5 if step > cooling else 1.0
        assert drawn.rate_at(step) == pytest.approx(peak * rise * fall)
        assert drawn.beta_at(step) == pytest.approx(beta * step / beta_warmup if step < beta_warmup else beta)


@pytest.mark.parametrize(("n", "batch"), [(12, 4), (10, 4), (7, 7), (5, 8)])
def test_an_epoch_draws_every_image_at_most_once(n: int, batch: int) -> None:
    """A whole number of batches, and as much of the images as they hold; the next epoch has another order."""
    size, steps = min(batch, n), n // min(batch, n)
    epochs = [
        torch.cat([draw_batch(n, batch, epoch * steps + step, seed=3) for step in range(1, steps + 1)])
        for epoch in range(3)
    ]
    assert all(len(epoch) == len(epoch.unique()) == steps * size for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(draw_batch(n, batch, 2, seed=3), draw_batch(n, batch, 2, seed=3)), "of its arguments alone"


def test_seeds_of_steps_ranks_and_trainings_differ() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(4)}
    assert len(seeds) == 5 * 50 * 4 and all(0 <= seed < 2**63 for seed in seeds)
