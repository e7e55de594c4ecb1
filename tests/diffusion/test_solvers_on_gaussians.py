"""Sampling and inversion on a noise function that is known on paper."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dscm.diffusion.process import ancestral, make_grid
from dscm.diffusion.solvers import Solver, invert, sample
from tests.support.gaussian import LINEAR, MEAN, STD, Recorder, gaussian_eps, gaussian_flow
from tests.support.networks import randn


@pytest.mark.parametrize("kind", ["log-sigma", "uniform"])
def test_sample_tells_the_true_timesteps(kind: str) -> None:
    """Each step evaluates ε once, at the level it leaves: a timestep of the grid, never an index."""
    grid, eps_fn = make_grid(LINEAR, 7, kind), Recorder()
    sample(eps_fn, randn(2, 1, 2, 2), LINEAR, grid)
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
    """A round trip, inverted and sampled, errs, and less with every doubling of K."""
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
    u = invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=60))
    torch.testing.assert_close(sample(gaussian_eps, u, LINEAR, grid), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "walk",
    [
        lambda x, grid: sample(gaussian_eps, x, LINEAR, grid),
        lambda x, grid: invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=0)),
        lambda x, grid: invert(gaussian_eps, x, LINEAR, grid, Solver(evaluations=2)),
        lambda x, grid: ancestral(gaussian_eps, x, LINEAR, grid, torch.Generator().manual_seed(0)),
    ],
    ids=["sample", "explicit", "implicit", "ancestral"],
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
        invert(eps_fn, x, LINEAR, grid, Solver(evaluations=1)),
        ancestral(eps_fn, x, LINEAR, grid, generator),
    ]
    assert all(result.dtype == torch.float32 for result in results)
    assert all(image.dtype == torch.float32 for image in eps_fn.images)
