"""The mathematics of DDPM and DDIM, on noise functions whose answers are known."""

import math

import pytest
import torch
from torch import Tensor

from dscm import diffusion
from dscm.diffusion import Schedule, add_noise, ddim_step, invert, make_grid, sample

F64 = torch.float64
MEAN, STD = 0.3, 0.5


@pytest.fixture
def schedule() -> Schedule:
    """The published linear schedule."""
    return diffusion.linear_schedule()


def gaussian_eps(schedule: Schedule):
    """Return the exact ε of data from N(MEAN, STD²): √(1−a)·(x − √a·μ)/(a·s² + 1 − a)."""

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        a = schedule.alpha_bar(t)[:, None, None, None]
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)

    return eps_fn


def noise(n: int = 4, seed: int = 0) -> Tensor:
    """Draw a few 3×3 images in float64."""
    return torch.randn(n, 1, 3, 3, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", list(diffusion.SCHEDULES))
def test_schedules_fall_from_exactly_one(name: str) -> None:
    a = diffusion.SCHEDULES[name]().alpha_bar(torch.arange(1001))
    assert a[0] == 1 and (a.diff() < 0).all() and 0 < a[-1] < 0.01


def test_linear_schedule_is_the_product_of_one_minus_beta(schedule: Schedule) -> None:
    expected = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64), 0)
    torch.testing.assert_close(schedule.alpha_bar(torch.arange(1, 1001)), expected, rtol=1e-12, atol=0)


def test_timestep_inverts_the_noise_level(schedule: Schedule) -> None:
    t = torch.tensor([0.0, 0.4, 1.0, 17.3, 512.9, 1000.0], dtype=F64)
    sigma = (1 / schedule.alpha_bar(t) - 1).sqrt()
    torch.testing.assert_close(schedule.timestep(sigma), t, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["log-sigma", "uniform"])
def test_grids_descend_to_the_clean_image_in_k_steps(schedule: Schedule, kind: str) -> None:
    grid = make_grid(schedule, 20, kind)
    assert len(grid) == 21 and (grid.diff() < 0).all() and grid[-1] == 0 and grid[0] <= 1000


def test_log_sigma_grid_is_even_in_log_sigma(schedule: Schedule) -> None:
    sigma = (1 / schedule.alpha_bar(make_grid(schedule, 20)[:-1]) - 1).sqrt()
    torch.testing.assert_close(sigma.log().diff(), torch.full((19,), math.log(0.03 / 80) / 19, dtype=F64))


def test_velocity_and_noise_convert_back() -> None:
    x, eps, a = noise(), noise(seed=1), torch.tensor([0.01, 0.3, 0.9, 1.0], dtype=F64)
    v = diffusion.velocity(x, eps, a)
    torch.testing.assert_close(diffusion.eps_from_velocity(v, add_noise(x, eps, a), a), eps)


def test_step_is_the_textbook_formula_and_exact_there_and_back() -> None:
    x, eps = noise(), noise(seed=1)
    kept = x.clone()
    a, b = torch.tensor(0.4, dtype=F64), torch.tensor(0.9, dtype=F64)
    there = ddim_step(x, eps, a, b)
    clean = (x - (1 - a).sqrt() * eps) / a.sqrt()
    torch.testing.assert_close(there, b.sqrt() * clean + (1 - b).sqrt() * eps, rtol=0, atol=1e-12)
    torch.testing.assert_close(ddim_step(there, eps, b, a), x, rtol=0, atol=1e-12)
    assert torch.equal(x, kept)


def test_network_sees_the_true_timesteps(schedule: Schedule) -> None:
    """Down and implicit up: the noisier end of each step; explicit up: the level it leaves."""
    grid, seen = make_grid(schedule, 5), []

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x),)
        seen.append(t[0].item())
        return torch.zeros_like(x)

    sample(eps_fn, noise(), schedule, grid)
    assert seen == grid[:-1].tolist()
    seen.clear()
    invert(eps_fn, noise(), schedule, grid)
    assert seen == grid[1:].flip(0).tolist()
    seen.clear()
    invert(eps_fn, noise(), schedule, grid, fixed_point=1)
    assert seen == [0.0, *grid[:-1].flip(0).tolist()]


def test_generation_converges_to_the_solution_for_gaussian_data(schedule: Schedule) -> None:
    """x(0) = μ + s·(x(T) − √a·μ)/√(a·s² + 1 − a), approached at first order in 1/K."""
    u, errors = noise(), []
    for steps in (100, 200, 400):
        grid = make_grid(schedule, steps, sigma_min=1e-3)
        a = schedule.alpha_bar(grid[0])
        exact = MEAN + STD * (u - a.sqrt() * MEAN) / (a * STD**2 + 1 - a).sqrt()
        errors.append((sample(gaussian_eps(schedule), u, schedule, grid) - exact).abs().max().item())
    assert errors[2] < 0.02 and 1.7 < errors[0] / errors[1] < 2.3 and 1.7 < errors[1] / errors[2] < 2.3


def round_trip(schedule: Schedule, steps: int, fixed_point: int) -> float:
    """Return the largest error of inverting and generating again."""
    grid, x = make_grid(schedule, steps), noise()
    eps_fn = gaussian_eps(schedule)
    return (sample(eps_fn, invert(eps_fn, x, schedule, grid, fixed_point), schedule, grid) - x).abs().max().item()


def test_explicit_round_trip_improves_with_steps(schedule: Schedule) -> None:
    errors = [round_trip(schedule, steps, 0) for steps in (20, 40, 80)]
    assert errors[0] > 1.5 * errors[1] > 2.2 * errors[2]


def test_implicit_round_trip_is_exact(schedule: Schedule) -> None:
    assert round_trip(schedule, 20, 2) < 0.1 * round_trip(schedule, 20, 0)
    assert round_trip(schedule, 20, 60) < 1e-10


def test_ancestral_sampling_has_the_moments_of_the_data(schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(400, 1, 3, 3, dtype=F64, generator=generator)
    x = diffusion.ancestral(gaussian_eps(schedule), u, schedule, make_grid(schedule, 250, "uniform"), generator)
    assert abs(x.mean().item() - MEAN) < 0.03 and abs(x.std().item() - STD) < 0.03


def test_clipping_keeps_images_in_range(schedule: Schedule) -> None:
    x = sample(lambda x, t: -x, 3 * noise(), schedule, make_grid(schedule, 10), clip=True)
    assert x.abs().max() <= 1 + 1e-12


def test_timesteps_are_stratified() -> None:
    t = diffusion.sample_timesteps(10, 1000, torch.Generator().manual_seed(0))
    assert torch.equal((t / 100).floor().sort().values, torch.arange(10.0)) and not torch.equal(t, t.sort().values)


def test_inputs_are_not_changed(schedule: Schedule) -> None:
    x, grid = noise(), make_grid(schedule, 4)
    kept = x.clone()
    invert(gaussian_eps(schedule), x, schedule, grid, 2)
    sample(gaussian_eps(schedule), x, schedule, grid)
    assert torch.equal(x, kept)
