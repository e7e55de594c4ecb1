"""Levels of short paths: known errors, and shortest paths against all of them."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dscm.diffusion.levels import Trace, find_shortest, fit_levels, place_levels, step_errors, trace
from dscm.diffusion.process import linear_schedule, stretch_grid
from dscm.diffusion.solvers import Solver, inversion_path
from tests.support.image_mechanisms import make, observe

LEVELS, FINE = 13, 400  # levels, and parts between two of them
PIXEL = (-1, 1, 1, 1, 1)


def follow(clean: Callable[[float], float]) -> Trace:
    """Return the path of x̄ whose D is a function of σ, by ``x̄'/σ' − x̄/σ = ∫ D d(1/σ)`` in many small parts."""
    sigma = torch.logspace(-1.5, 1.5, (LEVELS - 1) * FINE + 1, dtype=torch.float64)
    values = torch.tensor([*map(clean, sigma.tolist())], dtype=torch.float64)
    parts = (values[1:] + values[:-1]) / 2 * (1 / sigma).diff()
    scaled = sigma * (0.3 + torch.cat([parts.new_zeros(1), parts.cumsum(0)]))
    return note(*(x[::FINE] for x in (sigma, scaled, values)))


def note(sigma: Tensor, scaled: Tensor, clean: Tensor) -> Trace:
    """Make a trace of one pixel from σ, x̄ and D, each (M,)."""
    a = 1 / (1 + sigma**2)
    return Trace(a, (a.sqrt() * scaled).reshape(PIXEL), clean.reshape(PIXEL))


@pytest.mark.parametrize("clean", [lambda sigma: 0.4, lambda sigma: 0.4 + 0.1 / sigma])
def test_the_trapezoid_is_exact_where_d_is_linear_in_the_inverse_level(clean: Callable[[float], float]) -> None:
    errors = step_errors(follow(clean))
    above = torch.ones(LEVELS, LEVELS).triu(1).bool()
    assert errors[above].max().item() < 1e-10
    assert errors[~above].isinf().all()


def test_the_error_of_a_step_by_hand() -> None:
    """From x̄ = 0.7 at 1 to 2, with D of 0.2 and 0.8, to ``0.5 + 2·(0.7 − 0.5)`` where 1.3 is right; and back."""
    levels, scaled, clean = torch.tensor([[1.0, 2.0], [0.7, 1.3], [0.2, 0.8]], dtype=torch.float64)
    errors = step_errors(note(levels, scaled, clean))
    up, down = abs(0.9 - 1.3) / math.sqrt(1 + 2**2), abs(0.9 - 0.7) / math.sqrt(1 + 1**2)
    assert errors[0, 1].item() == pytest.approx(up + down, abs=1e-12)


def test_the_shortest_path_is_that_of_a_search_through_all() -> None:
    errors = torch.rand(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = errors.masked_fill(torch.ones(8, 8).tril().bool(), math.inf)

    def cost(path: list[int]) -> float:
        return sum(errors[i, j].item() for i, j in zip(path, path[1:]))

    for steps in (1, 3, 5, 7):
        paths = [[0, *inner, 7] for inner in itertools.combinations(range(1, 7), steps - 1)]
        assert find_shortest(errors, steps) == min(paths, key=cost)


def test_levels_lie_where_d_changes() -> None:
    """D stands still above σ = 1: one step leads from there to where it begins to change; even ones would be three."""
    found = follow(lambda sigma: max(0.0, -math.log(sigma)))
    levels = place_levels([found], 5)
    assert len(levels) == 6 and (levels[0], levels[-1]) == (31.6, 0.0316)
    assert levels[1] < 2, levels


def test_a_trace_holds_what_the_field_says_of_its_path() -> None:
    """The field of N(0, 1), whose D is ``x̄/(1 + σ²) = √ᾱ·x``."""
    schedule, x = linear_schedule(), torch.ones(2, 1, 2, 2, dtype=torch.float64)
    grid = schedule.timestep(torch.tensor([20.0, 1.0, 0.05]))

    def field(x: Tensor, t: Tensor) -> Tensor:
        return (1 - schedule.alpha_bar(t)).sqrt().reshape(-1, 1, 1, 1) * x

    found = trace(field, inversion_path(field, x, schedule, grid, Solver("trapezoid", 5)), schedule, grid.flip(0))
    a = 1 / (1 + torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64) ** 2)
    torch.testing.assert_close(found.alpha_bar, a, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.clean, found.states * found.alpha_bar.sqrt().reshape(PIXEL))


def test_a_mechanism_gets_levels_between_the_ends() -> None:
    data = {**observe(3), "image": torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)}
    levels = fit_levels(make("semantic").float(), data, 4, (10.0, 0.1))
    assert len(levels) == 5 and (levels[0], levels[-1]) == (10, 0.1) and sorted(levels, reverse=True) == [*levels]


def test_a_fitted_grid_is_refined_and_stretched_in_log_sigma() -> None:
    schedule = linear_schedule()

    def sigmas(steps: int, sigma_min: float) -> list[float]:
        a = schedule.alpha_bar(stretch_grid(schedule, steps, [27.0, 3.0, 1.0], sigma_min))
        return (1 / a - 1).sqrt().tolist()

    assert sigmas(2, 1.0) == pytest.approx([27, 3, 1])
    assert sigmas(4, 1.0) == pytest.approx([27, 9, 3, 3**0.5, 1])
    assert sigmas(2, 1 / 27) == pytest.approx([27, 1 / 3, 1 / 27])
    assert sigmas(1, 1.0) == pytest.approx([27, 1])
