"""The mathematics of diffusion, on noise functions whose answers are known on paper."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dscm.diffusion.process import (
    add_noise,
    ancestral,
    ddim_step,
    eps_from_velocity,
    linear_schedule,
    make_grid,
    velocity,
)
from dscm.diffusion.solvers import Solver, clipped, invert, sample

MEAN, STD = 0.3, 0.6  # of the Gaussian data
LINEAR = linear_schedule()


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Draw float64 noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigma_of(a: Tensor) -> Tensor:
    """Return the noise level of x/√a."""
    return (1 - a).sqrt() / a.sqrt()


def gaussian_eps(x: Tensor, t: Tensor) -> Tensor:
    """Compute the exact E[ε | x_t] of data x_0 ~ N(MEAN, STD²) under the linear schedule."""
    a = LINEAR.alpha_bar(t)[:, None, None, None]
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)


def gaussian_flow(x: Tensor, grid: Tensor) -> Tensor:
    """Solve the ODE of `gaussian_eps` exactly from the first timestep of a grid to 0."""
    a = LINEAR.alpha_bar(grid[0])
    return MEAN + (x / a.sqrt() - MEAN) * STD / (STD**2 + sigma_of(a) ** 2).sqrt()


class Recorder:
    """A noise function that remembers the timesteps and images it was called with."""

    def __init__(self, eps_fn: Callable[[Tensor, Tensor], Tensor] = gaussian_eps) -> None:
        self.eps_fn = eps_fn
        self.timesteps: list[Tensor] = []
        self.images: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x),) and t.dtype == x.dtype
        assert (t == t[0]).all(), "one step has one timestep"
        self.timesteps.append(t[0].clone())
        self.images.append(x.clone())
        return self.eps_fn(x, t)


# Noise and velocity


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
    """v is ε where the image is clean, −x where it is noise, and x_t turned by a right angle in between."""
    x, eps = randn(3, 1, 2, 2), randn(3, 1, 2, 2, seed=1)
    v = velocity(x, eps, torch.tensor([1.0, 0.0, 0.64], dtype=torch.float64))
    torch.testing.assert_close(v, torch.stack([eps[0], -x[1], 0.8 * eps[2] - 0.6 * x[2]]), rtol=0, atol=1e-12)


# One step


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


# What the network is told


@pytest.mark.parametrize("kind", ["log-sigma", "uniform"])
def test_sample_tells_the_true_timesteps(kind: str) -> None:
    """Each step evaluates ε once, at the level it leaves: a timestep of the grid, never an index."""
    grid, eps_fn = make_grid(LINEAR, 7, kind), Recorder()
    sample(eps_fn, randn(2, 1, 2, 2), LINEAR, grid)
    assert torch.equal(torch.stack(eps_fn.timesteps), grid[:-1])


def test_ancestral_tells_the_true_timesteps() -> None:
    """As `sample`."""
    grid, eps_fn = make_grid(LINEAR, 7, "edm", 0.0), Recorder()
    ancestral(eps_fn, randn(2, 1, 2, 2), LINEAR, grid, torch.Generator().manual_seed(0))
    assert torch.equal(torch.stack(eps_fn.timesteps), grid[:-1])


@pytest.mark.parametrize("kind", ["log-sigma", "uniform"])
def test_explicit_inversion_sees_the_level_it_leaves(kind: str) -> None:
    """One evaluation a step, from the image, which is x̄ at the grid's end, up to the last level but one."""
    grid, eps_fn, x = make_grid(LINEAR, 7, kind), Recorder(), randn(2, 1, 2, 2)
    invert(eps_fn, x, LINEAR, grid, Solver(evaluations=0))
    assert torch.equal(torch.stack(eps_fn.timesteps), grid[1:].flip(0))
    torch.testing.assert_close(eps_fn.images[0] / LINEAR.alpha_bar(grid[-1]).sqrt(), x, rtol=0, atol=1e-14)


def test_explicit_inversion_may_start_at_the_clean_image() -> None:
    """The paper's grid ends at exactly 0, where x̄ is x."""
    grid, eps_fn, x = make_grid(LINEAR, 7, "uniform", 0.0), Recorder(), randn(2, 1, 2, 2)
    invert(eps_fn, x, LINEAR, grid, Solver(evaluations=0))
    assert torch.equal(eps_fn.images[0], x) and not eps_fn.timesteps[0].any()


def test_implicit_inversion_sees_the_level_it_arrives_at() -> None:
    """After a first guess at the grid's end all are at the level that a step goes to."""
    grid, eps_fn = make_grid(LINEAR, 4), Recorder()
    invert(eps_fn, randn(2, 1, 2, 2), LINEAR, grid, Solver(evaluations=3))
    arrivals = grid[:-1].flip(0).repeat_interleave(3)
    assert torch.equal(torch.stack(eps_fn.timesteps), torch.cat([grid[-1:], arrivals]))


# Gaussian data, for which the ODE is solved


@pytest.mark.parametrize(("kind", "limits"), [("uniform", {"sigma_min": 0.0}), ("log-sigma", {"sigma_min": 1e-3})])
def test_sample_converges_to_the_ode_at_first_order(kind: str, limits: dict[str, float]) -> None:
    """Twice the steps halve the error."""
    x, errors = randn(8, 1, 2, 2), []
    for steps in (50, 100, 200):
        grid = make_grid(LINEAR, steps, kind, **limits)
        errors.append((sample(gaussian_eps, x, LINEAR, grid) - gaussian_flow(x, grid)).abs().max().item())
    assert errors[-1] < 0.05
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([2, 2], rel=0.25)


@pytest.mark.parametrize("fixed_point", [0, 1])
def test_invert_converges_to_the_ode_at_first_order(fixed_point: int) -> None:
    """The noise that is abducted from x is the one whose flow ends at x."""
    x, errors = MEAN + STD * randn(8, 1, 2, 2), []
    for steps in (100, 200, 400):
        grid = make_grid(LINEAR, steps, sigma_min=1e-3)
        flowed = gaussian_flow(invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=fixed_point)), grid)
        errors.append((flowed - x).abs().max().item())
    assert errors[-1] < 0.05
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2]


def test_explicit_round_trip_improves_with_steps() -> None:
    """invert → sample errs, and less with every doubling of K."""
    x, errors = MEAN + STD * randn(8, 1, 2, 2), []
    for steps in (10, 20, 40, 80):
        grid = make_grid(LINEAR, steps)
        back = sample(gaussian_eps, invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=0)), LINEAR, grid)
        errors.append((back - x).abs().max().item())
    assert errors[0] > 1e-2
    assert all(fewer > 1.5 * more for fewer, more in zip(errors, errors[1:]))


@pytest.mark.parametrize("kind", ["log-sigma", "uniform"])
def test_implicit_round_trip_is_exact(kind: str) -> None:
    """Once the fixed point is reached, sampling undoes inversion to rounding, at few steps."""
    x, grid = MEAN + STD * randn(8, 1, 2, 2), make_grid(LINEAR, 6, kind)
    u = invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=1000))
    torch.testing.assert_close(sample(gaussian_eps, u, LINEAR, grid), x, rtol=0, atol=1e-10)


def test_ancestral_sampling_draws_the_data() -> None:
    """From N(0, 1) come samples of mean MEAN and deviation STD, by DDPM's own thousand steps."""
    x = randn(20_000, 1, 1, 1)
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


# Clipping


def test_clip_keeps_the_clean_image_in_range() -> None:
    """A wild x̂_0 is clamped, and the step goes on with the noise that belongs to the clamped one."""
    x, grid, eps_fn = 3 * randn(4, 1, 4, 4), make_grid(LINEAR, 8, "edm", 0.0), Recorder(lambda x, t: -x)
    assert sample(eps_fn, x, LINEAR, grid).abs().max() > 1
    eps_fn.images.clear()
    assert sample(clipped(eps_fn, LINEAR), x, LINEAR, grid).abs().max() <= 1 + 1e-12
    a = LINEAR.alpha_bar(grid)
    clean = (x + (1 - a[0]).sqrt() * x) / a[0].sqrt()
    noise = (x - a[0].sqrt() * clean.clamp(-1, 1)) / (1 - a[0]).sqrt()
    assert clean.abs().max() > 1
    expected = a[1].sqrt() * clean.clamp(-1, 1) + (1 - a[1]).sqrt() * noise
    torch.testing.assert_close(eps_fn.images[1], expected, rtol=0, atol=1e-10)


def test_clip_leaves_images_within_range_alone() -> None:
    """Where no x̂_0 leaves [-1, 1], clipping changes nothing."""
    x, grid = randn(4, 1, 4, 4).clamp(-0.5, 0.5), make_grid(LINEAR, 8)
    plain, clamped = (sample(f, x, LINEAR, grid) for f in (gaussian_eps, clipped(gaussian_eps, LINEAR)))
    torch.testing.assert_close(clamped, plain, rtol=0, atol=1e-9)


# What is left alone


@pytest.mark.parametrize(
    "walk",
    [
        lambda x, grid: sample(gaussian_eps, x, LINEAR, grid),
        lambda x, grid: sample(clipped(gaussian_eps, LINEAR), x, LINEAR, grid),
        lambda x, grid: invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=0)),
        lambda x, grid: invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=2)),
        lambda x, grid: ancestral(gaussian_eps, x, LINEAR, grid, torch.Generator().manual_seed(0)),
    ],
    ids=["sample", "clip", "explicit", "implicit", "ancestral"],
)
def test_samplers_keep_their_inputs(walk: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Neither images nor grid nor schedule change, and the result has the images' shape."""
    x, grid, table = randn(2, 3, 4, 4), make_grid(LINEAR, 4), LINEAR.log_alpha_bar.clone()
    before = x.clone(), grid.clone()
    result = walk(x, grid)
    assert result.shape == x.shape
    assert torch.equal(x, before[0]) and torch.equal(grid, before[1]) and torch.equal(LINEAR.log_alpha_bar, table)
    assert not torch.equal(result, x)


def test_samplers_keep_float32() -> None:
    """A network in float32 is given float32, and so is the caller, although the schedule is float64."""
    eps_fn, grid = Recorder(lambda x, t: 0.1 * x), make_grid(LINEAR, 4)
    x = randn(2, 1, 4, 4).float()
    generator = torch.Generator().manual_seed(0)
    results = [
        sample(eps_fn, x, LINEAR, grid),
        sample(clipped(eps_fn, LINEAR), x, LINEAR, grid),
        invert(eps_fn, x, LINEAR, grid, Solver(evaluations=1)),
        ancestral(eps_fn, x, LINEAR, grid, generator),
    ]
    assert all(result.dtype == torch.float32 for result in results)
    assert all(image.dtype == torch.float32 for image in eps_fn.images)
