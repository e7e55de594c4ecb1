"""Noise schedules, the grids of timesteps on them, and the timesteps of training."""

import math

import pytest
import torch
from torch import Tensor

from dscm.diffusion.process import SCHEDULES, Schedule, cosine_schedule, linear_schedule, make_grid, sample_timesteps

LINEAR = linear_schedule()


def sigma_of(a: Tensor) -> Tensor:
    """Return the noise level of x/√a."""
    return (1 - a).sqrt() / a.sqrt()


# Schedules


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [10, 1000])
def test_schedule_falls_from_exactly_one(name: str, steps: int) -> None:
    """ᾱ(0) is 1, not almost 1, and ᾱ decreases everywhere, also between whole timesteps."""
    schedule = SCHEDULES[name](steps)
    assert schedule.steps == steps
    a = schedule.alpha_bar(torch.linspace(0, steps, 4 * steps + 1, dtype=torch.float64))
    assert a[0] == 1 and a.dtype == torch.float64
    assert (a.diff() < 0).all() and (a > 0).all()


def test_linear_schedule_is_the_cumulative_product() -> None:
    """At whole timesteps ᾱ is Π(1 − β), with the betas of Ho et al."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    expected = torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
    torch.testing.assert_close(LINEAR.alpha_bar(torch.arange(1001)), expected, rtol=1e-12, atol=0)


def test_cosine_schedule_has_known_values() -> None:
    """ᾱ(t) = f(t)/f(0) with f = cos²; halfway that is 0.4938…, before β is cut."""
    schedule = cosine_schedule(1000)
    angle = {t: (t / 1000 + 0.008) / 1.008 * math.pi / 2 for t in (0, 1, 250, 500, 900)}
    for t, value in angle.items():
        expected = (math.cos(value) / math.cos(angle[0])) ** 2
        assert schedule.alpha_bar(torch.tensor(t)).item() == pytest.approx(expected, rel=1e-9)
    assert schedule.alpha_bar(torch.tensor(500)).item() == pytest.approx(0.49384, abs=1e-5)


def test_cosine_schedule_cuts_beta() -> None:
    """The last β would be 1, which would leave no signal to recover; it is 0.999."""
    a = cosine_schedule(1000).alpha_bar(torch.tensor([999, 1000]))
    assert (1 - a[1] / a[0]).item() == pytest.approx(0.999, rel=1e-9)


def test_alpha_bar_between_timesteps_is_log_linear() -> None:
    """Halfway between two timesteps lies their geometric mean."""
    a = LINEAR.alpha_bar(torch.tensor([500.0, 500.5, 501.0]))
    assert a[1].item() == pytest.approx((a[0] * a[2]).sqrt().item(), rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_timestep_inverts_the_noise_level(name: str) -> None:
    """t → σ → t and σ → t → σ are the identity at real timesteps, whatever the shape."""
    schedule = SCHEDULES[name](1000)
    t = torch.cat([torch.linspace(0, 990, 397, dtype=torch.float64), torch.tensor([0.25, 0.5])]).reshape(3, -1)
    torch.testing.assert_close(schedule.timestep(sigma_of(schedule.alpha_bar(t))), t, rtol=0, atol=1e-6)
    sigma = torch.logspace(-3, 2, 50, dtype=torch.float64)
    torch.testing.assert_close(sigma_of(schedule.alpha_bar(schedule.timestep(sigma))), sigma, rtol=1e-9, atol=0)


def test_timestep_of_no_noise_and_of_too_much() -> None:
    """σ = 0 is exactly t = 0; a σ that the schedule never reaches is T."""
    assert LINEAR.timestep(torch.tensor([0.0, 1e6])).tolist() == [0.0, 1000.0]


# Grids


@pytest.mark.parametrize("kind", ["log-sigma", "edm", "uniform"])
@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("sigma_min", [0.0, 0.02])
def test_grid_descends_to_its_end_in_k_steps(kind: str, steps: int, sigma_min: float) -> None:
    """K steps have K + 1 points, descending, within [0, T], the last exactly 0 if that is its σ."""
    if kind == "log-sigma" and not sigma_min:
        with pytest.raises(ValueError):
            make_grid(LINEAR, steps, kind, sigma_min)
        return
    grid = make_grid(LINEAR, steps, kind, sigma_min)
    assert grid.shape == (steps + 1,) and grid.dtype == torch.float64
    assert (grid.diff() < 0).all() and grid[0] <= 1000
    assert sigma_of(LINEAR.alpha_bar(grid))[-1].item() == pytest.approx(sigma_min, abs=1e-12)
    assert (grid[-1] == 0) == (sigma_min == 0)


def test_log_sigma_grid_stays_within_a_short_schedule() -> None:
    """A schedule that ends below `sigma_max` is entered at its end, and no timestep comes twice."""
    schedule = linear_schedule(50)
    grid = make_grid(schedule, 10)
    assert grid[0].item() == pytest.approx(50) and (grid.diff() < 0).all()


def test_log_sigma_grid_is_even_in_log_sigma() -> None:
    """The logarithms of σ are evenly spaced from 80 to 0.01."""
    log_sigma = sigma_of(LINEAR.alpha_bar(make_grid(LINEAR, 20))).log()
    expected = torch.linspace(math.log(80), math.log(0.01), 21, dtype=torch.float64)
    torch.testing.assert_close(log_sigma, expected, rtol=0, atol=1e-9)


def test_log_sigma_grid_takes_its_range() -> None:
    """`sigma_max` and `sigma_min` are the first and the last level."""
    sigma = sigma_of(LINEAR.alpha_bar(make_grid(LINEAR, 5, sigma_min=0.1, sigma_max=10)))
    assert sigma[0].item() == pytest.approx(10) and sigma[-1].item() == pytest.approx(0.1)


def test_uniform_grid_is_even_in_t() -> None:
    """The paper's grid goes from T to 0."""
    assert make_grid(LINEAR, 4, "uniform", 0.0).tolist() == [1000, 750, 500, 250, 0]


def test_schedule_is_immutable() -> None:
    """A schedule is a value."""
    with pytest.raises(AttributeError):
        Schedule(LINEAR.log_alpha_bar).log_alpha_bar = torch.zeros(2)


# Timesteps for training


@pytest.mark.parametrize("n", [1, 7, 96])
def test_timesteps_are_stratified(n: int) -> None:
    """Every n-th of [0, T] holds exactly one timestep."""
    t = sample_timesteps(n, LINEAR, torch.Generator().manual_seed(0))
    assert t.shape == (n,)
    assert (t.sort().values * n / 1000).floor().tolist() == list(range(n))


def test_timesteps_are_shuffled_real_and_seeded() -> None:
    """Their order is random, they are no whole numbers, and a seed repeats them."""
    t = sample_timesteps(96, LINEAR, torch.Generator().manual_seed(0))
    assert (t.diff() < 0).any() and (t != t.round()).any()
    assert torch.equal(t, sample_timesteps(96, LINEAR, torch.Generator().manual_seed(0)))
    assert not torch.equal(t, sample_timesteps(96, LINEAR, torch.Generator().manual_seed(1)))


def test_timesteps_are_uniform_within_their_strata() -> None:
    """Over many draws of 4, each quarter's mean is its middle."""
    generator = torch.Generator().manual_seed(0)
    t = torch.stack([sample_timesteps(4, LINEAR, generator).sort().values for _ in range(2000)])
    middles = torch.tensor([125.0, 375.0, 625.0, 875.0], dtype=torch.double)
    torch.testing.assert_close(t.mean(0), middles, rtol=0, atol=8)  # 5 standard errors
    torch.testing.assert_close(t.std(0), torch.full((4,), 250 / math.sqrt(12)).double(), rtol=0.05, atol=0)


def test_focused_timesteps_are_log_normal_in_sigma() -> None:
    """With focus 1 the quantiles of ln σ are those of N(−0.4, 1.4²), within the schedule's range."""
    t = sample_timesteps(4000, LINEAR, torch.Generator().manual_seed(0), focus=1.0)
    log_sigma = (1 / LINEAR.alpha_bar(t) - 1).sqrt().log()
    wanted = torch.distributions.Normal(-0.4, 1.4).icdf(torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(
        log_sigma.quantile(torch.tensor([0.1, 0.5, 0.9]).double()), wanted.double(), rtol=0, atol=5e-3
    )


def test_focus_is_a_share() -> None:
    """Half the timesteps stay uniform: the highest noise levels, which the log-normal hardly reaches, get half."""
    plain, mixed = (sample_timesteps(4000, LINEAR, torch.Generator().manual_seed(0), focus=f) for f in (0.0, 0.5))
    assert (plain > 700).double().mean() == pytest.approx(0.3, abs=0.001)
    assert (mixed > 700).double().mean() == pytest.approx(0.15, abs=0.02)
