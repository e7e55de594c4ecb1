"""Noise levels, grids and timesteps, single steps, and ancestral sampling: formulas with known values."""

import math

import pytest
import torch
from torch import Tensor

from dscm.diffusion.process import (
    SCHEDULES,
    Schedule,
    add_noise,
    ancestral,
    clamped,
    cosine_schedule,
    ddim_step,
    eps_from_velocity,
    linear_schedule,
    make_grid,
    sample_timesteps,
    size_shift,
    velocity,
)
from tests.support.gaussian import LINEAR, MEAN, STD, Recorder, gaussian_eps, sigma_of
from tests.support.networks import randn


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
    """Both t → σ → t and σ → t → σ are the identity at real timesteps, whatever the shape."""
    schedule = SCHEDULES[name](1000)
    t = torch.cat([torch.linspace(0, 990, 397, dtype=torch.float64), torch.tensor([0.25, 0.5])]).reshape(3, -1)
    torch.testing.assert_close(schedule.timestep(sigma_of(schedule.alpha_bar(t))), t, rtol=0, atol=1e-6)
    sigma = torch.logspace(-3, 2, 50, dtype=torch.float64)
    torch.testing.assert_close(sigma_of(schedule.alpha_bar(schedule.timestep(sigma))), sigma, rtol=1e-9, atol=0)


def test_timestep_of_no_noise_and_of_too_much() -> None:
    """σ = 0 is exactly t = 0; a σ that the schedule never reaches is T."""
    assert LINEAR.timestep(torch.tensor([0.0, 1e6])).tolist() == [0.0, 1000.0]


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
    t = torch.stack([sample_timesteps(4, LINEAR, generator).sort().values for _ in range(800)])
    middles = torch.tensor([125.0, 375.0, 625.0, 875.0], dtype=torch.double)
    torch.testing.assert_close(t.mean(0), middles, rtol=0, atol=13)  # 5 standard errors
    torch.testing.assert_close(t.std(0), torch.full((4,), 250 / math.sqrt(12)).double(), rtol=0.08, atol=0)


def test_focused_timesteps_are_log_normal_in_sigma() -> None:
    """With focus 1 the quantiles of ln σ are those of N(−0.4, 1.4²), within the schedule's range."""
    t = sample_timesteps(4000, LINEAR, torch.Generator().manual_seed(0), focus=1.0)
    log_sigma = (1 / LINEAR.alpha_bar(t) - 1).sqrt().log()
    wanted = torch.distributions.Normal(-0.4, 1.4).icdf(torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(
        log_sigma.quantile(torch.tensor([0.1, 0.5, 0.9]).double()), wanted.double(), rtol=0, atol=5e-3
    )


@pytest.mark.parametrize(("size", "shift"), [(28, 1.0), (64, 1.0), (96, 1.5), (192, 3.0)])
def test_larger_images_are_trained_at_higher_noise(size: int, shift: float) -> None:
    """``log SNR + 2·log(64/size)``: the quantiles of ln σ move by ln(size/64), those of the uniform share too."""
    assert size_shift(size) == shift
    cosine = cosine_schedule()
    for schedule, focus in ((LINEAR, 1.0), (cosine, 1.0), (cosine, 0.0)):
        plain, shifted = (
            schedule.sigma(sample_timesteps(4000, schedule, torch.Generator().manual_seed(0), focus, s)).log()
            for s in (1.0, shift)
        )
        middle = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        moved = shifted.quantile(middle) - plain.quantile(middle)
        torch.testing.assert_close(moved, torch.full_like(moved, math.log(shift)), rtol=0, atol=4e-3)


def test_shifted_timesteps_stay_below_the_last_without_crowding_there() -> None:
    """The uniform share ends in T; none is cut off to it."""
    t = sample_timesteps(1000, LINEAR, torch.Generator().manual_seed(0), shift=3.0)
    assert 990 < t.max() < 1000 and (t > 999).sum() < 4


def test_focus_is_a_share() -> None:
    """Half the timesteps stay uniform: the highest noise levels, which the log-normal hardly reaches, get half."""
    plain, mixed = (sample_timesteps(4000, LINEAR, torch.Generator().manual_seed(0), focus=f) for f in (0.0, 0.5))
    assert (plain > 700).double().mean() == pytest.approx(0.3, abs=0.001)
    assert (mixed > 700).double().mean() == pytest.approx(0.15, abs=0.02)


def test_add_noise_takes_one_level_per_image() -> None:
    """ᾱ = 1 gives the image, 0 the noise, and 0.64 a mix of 0.8 and 0.6."""
    x, eps = randn(3, 1, 2, 2), randn(3, 1, 2, 2, seed=1)
    noisy = add_noise(x, eps, torch.tensor([1.0, 0.0, 0.64], dtype=torch.float64))
    expected = torch.stack([x[0], eps[1], 0.8 * x[2] + 0.6 * eps[2]])
    torch.testing.assert_close(noisy, expected, rtol=0, atol=1e-12)


def test_velocity_gives_noise_back() -> None:
    """ε from v and x_t is the ε that both were made of, at every level from ᾱ = 1 to 0."""
    x, eps, a = randn(6, 2, 3, 3), randn(6, 2, 3, 3, seed=1), torch.linspace(0, 1, 6, dtype=torch.float64)
    v, x_t = velocity(x, eps, a), add_noise(x, eps, a)
    torch.testing.assert_close(eps_from_velocity(v, x_t, a), eps, rtol=0, atol=1e-12)


def test_velocity_has_known_values() -> None:
    """The velocity is ε where the image is clean, −x where it is noise, and x_t turned by a right angle in between."""
    x, eps = randn(3, 1, 2, 2), randn(3, 1, 2, 2, seed=1)
    v = velocity(x, eps, torch.tensor([1.0, 0.0, 0.64], dtype=torch.float64))
    torch.testing.assert_close(v, torch.stack([eps[0], -x[1], 0.8 * eps[2] - 0.6 * x[2]]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("a_from", "a_to"), [(1e-4, 0.3), (0.3, 1e-4), (0.5, 0.9), (0.9, 1.0), (1.0, 0.9)])
def test_ddim_step_is_the_textbook_formula(a_from: float, a_to: float) -> None:
    """√a'·x̂_0 + √(1−a')·ε with x̂_0 = (x − √(1−a)·ε)/√a, downwards and upwards, also to and from clean images."""
    x, eps = randn(2, 1, 4, 4), randn(2, 1, 4, 4, seed=1)
    clean = (x - math.sqrt(1 - a_from) * eps) / math.sqrt(a_from)
    expected = math.sqrt(a_to) * clean + math.sqrt(1 - a_to) * eps
    a_from, a_to = (torch.tensor(a, dtype=torch.float64) for a in (a_from, a_to))
    torch.testing.assert_close(ddim_step(x, eps, a_from, a_to), expected, rtol=1e-11, atol=1e-11)


def test_ddim_step_there_and_back_is_exact() -> None:
    """With the same ε the step up undoes the step down, over the whole grid."""
    start, eps = randn(2, 3, 4, 4), randn(2, 3, 4, 4, seed=1)
    a = LINEAR.alpha_bar(make_grid(LINEAR, 10))
    x = start
    for a_from, a_to in zip(a[:-1], a[1:]):
        x = ddim_step(x, eps, a_from, a_to)
    assert (x - start).abs().max() > 1
    for a_from, a_to in zip(a.flip(0)[:-1], a.flip(0)[1:]):
        x = ddim_step(x, eps, a_from, a_to)
    torch.testing.assert_close(x, start, rtol=0, atol=1e-12)


def test_ddim_step_keeps_dtype_and_inputs() -> None:
    """float32 images stay float32 although ᾱ is float64, and nothing is changed in place."""
    x, eps = randn(2, 1, 4, 4).float(), randn(2, 1, 4, 4, seed=1).float()
    a_from, a_to = torch.tensor([0.5, 0.9], dtype=torch.float64)
    before = [tensor.clone() for tensor in (x, eps, a_from, a_to)]
    assert ddim_step(x, eps, a_from, a_to).dtype == torch.float32
    assert all(torch.equal(*pair) for pair in zip(before, (x, eps, a_from, a_to)))


def test_ancestral_tells_the_true_timesteps() -> None:
    """As `sample`."""
    grid, eps_fn = make_grid(LINEAR, 7, "edm", 0.0), Recorder()
    ancestral(eps_fn, randn(2, 1, 2, 2), LINEAR, grid, torch.Generator().manual_seed(0))
    assert torch.equal(torch.stack(eps_fn.timesteps), grid[:-1])


def test_ancestral_sampling_draws_the_data() -> None:
    """From N(0, 1) come samples of mean MEAN and deviation STD, by DDPM's own thousand steps."""
    x = randn(5_000, 1, 1, 1)
    grid = make_grid(LINEAR, 1000, "uniform", 0.0)
    samples = ancestral(gaussian_eps, x, LINEAR, grid, torch.Generator().manual_seed(1))
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert samples.std().item() == pytest.approx(STD, rel=0.02)
    correlation = torch.corrcoef(torch.stack([x.flatten(), samples.flatten()]))[0, 1]
    assert abs(correlation) < 0.05, "the steps must add noise of their own"


def test_ancestral_step_is_the_posterior() -> None:
    """One step draws from q(x_{t−1} | x_t, x̂_0) of Ho et al., eq. 6 and 7."""
    schedule, clean, n = linear_schedule(10, 0.05, 0.3), 0.7, 50_000
    a = schedule.alpha_bar(torch.arange(11))
    grid = torch.tensor([6.0, 5.0, 0.0], dtype=torch.float64)
    x = torch.full((n, 1, 1, 1), 1.1, dtype=torch.float64)

    def towards_clean(x: Tensor, t: Tensor) -> Tensor:
        a = schedule.alpha_bar(t[0])
        return (x - a.sqrt() * clean) / (1 - a).sqrt()

    eps_fn = Recorder(towards_clean)
    end = ancestral(eps_fn, x, schedule, grid, torch.Generator().manual_seed(0))
    beta = 1 - a[6] / a[5]
    mean = (a[5].sqrt() * beta * clean + (1 - beta).sqrt() * (1 - a[5]) * 1.1) / (1 - a[6])
    std = (beta * (1 - a[5]) / (1 - a[6])).sqrt()
    assert eps_fn.images[1].mean().item() == pytest.approx(mean.item(), abs=5 * std.item() / math.sqrt(n))
    assert eps_fn.images[1].std().item() == pytest.approx(std.item(), rel=0.02)
    torch.testing.assert_close(end, torch.full_like(end, clean), rtol=0, atol=1e-12)  # the last step adds none


def test_ancestral_sampling_is_seeded() -> None:
    """Only the generator decides."""
    x, grid = randn(2, 1, 2, 2), make_grid(LINEAR, 5, "uniform", 0.0)
    first, again, other = (
        ancestral(gaussian_eps, x, LINEAR, grid, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_clamped_noise_implies_the_clamped_image() -> None:
    """The clean image of the new ε is the old one's, clamped; where none is, and at t = 0, ε stays."""
    t = torch.tensor([700.0, 20.0, 0.0], dtype=torch.float64)
    x, eps = randn(3, 1, 4, 4), randn(3, 1, 4, 4, seed=1)
    a = LINEAR.alpha_bar(t)
    new = clamped(lambda x, t: eps, LINEAR)(x, t)
    for i in range(2):
        clean = ddim_step(x[i], eps[i], a[i], torch.tensor(1.0, dtype=torch.float64))
        found = ddim_step(x[i], new[i], a[i], torch.tensor(1.0, dtype=torch.float64))
        assert clean.abs().max() > 1 and torch.allclose(found, clean.clamp(-1, 1), atol=1e-9)
        assert torch.allclose(new[i][clean.abs() <= 1], eps[i][clean.abs() <= 1], atol=1e-9)
    assert torch.equal(new[2], eps[2])
