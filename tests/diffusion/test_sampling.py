"""Settings of sampling: defaults that depend on each other, and refusals of what does not go together."""

from typing import Any

import pytest

from dscm.diffusion.guidance import Weights
from dscm.diffusion.process import linear_schedule
from dscm.diffusion.sampling import Sampling, default_interval
from dscm.diffusion.solvers import Solver
from dscm.errors import InputError
from dscm.settings import complete


@pytest.mark.parametrize(
    ("settings", "solver"),
    [
        ({}, Solver("trapezoid", 1)),
        ({"abduction": "guided"}, Solver("trapezoid", 1)),
        ({"abduction": "dynamic"}, Solver("ddim", 2)),
        ({"abduction": "residual", "fixed_point": 0}, Solver("ddim", 0)),
        ({"solver": "2m"}, Solver("2m", 0)),
        ({"solver": "trapezoid", "fixed_point": 3}, Solver("trapezoid", 3)),
    ],
)
def test_the_solver_suits_the_abduction_unless_it_is_named(settings: dict[str, Any], solver: Solver) -> None:
    assert Sampling(**settings).ode_solver == solver


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, (20, "log-sigma", 0.01)),
        ({"levels": (9.0, 1.0, 0.5)}, (2, "σ = 9, 1, 0.5", 0.5)),
        ({"levels": (9.0, 1.0, 0.5), "steps": 5}, (5, "σ = 9, 1, 0.5", 0.5)),
        ({"levels": (9.0, 1.0, 0.5), "sigma_min": 0.1}, (2, "σ = 9, 1, 0.5", 0.1)),
        ({"levels": (9.0, 1.0, 0.5), "solver": "ddim"}, (20, "σ = 9, 1, 0.5", 0.5)),
        ({"levels": (9.0, 1.0, 0.5), "abduction": "dynamic"}, (20, "σ = 9, 1, 0.5", 0.5)),
        ({"levels": (9.0, 1.0, 0.5), "grid": "edm"}, (20, "edm", 0.01)),
        ({"levels": (9.0, 1.0, 0.5), **complete(Sampling, {"published": True})}, (1000, "uniform", 0.0)),
    ],
)
def test_fitted_levels_are_visited_unless_something_else_is_chosen(settings: dict[str, Any], path: Any) -> None:
    sampling = Sampling(**settings)
    assert (sampling.count, sampling.spacing, sampling.lowest) == path
    timesteps = sampling.timesteps(linear_schedule())
    sigma = (1 / linear_schedule().alpha_bar(timesteps) - 1).sqrt()
    assert len(sigma) == sampling.count + 1 and abs(sigma[-1].item() - sampling.lowest) < 1e-9


def test_guidance_is_a_number_or_a_weight_for_each_group() -> None:
    assert Sampling(guidance=3).weights == Weights(3.0)
    assert Sampling(guidance="thickness=3,others=2").weights == Weights(2.0, (("thickness", 3.0),))


def test_the_guidance_interval_is_two_numbers_or_those_of_each_group() -> None:
    assert Sampling(guidance_interval="0.3:20").guidance_interval == (0.3, 20.0)
    several = Sampling(guidance_interval="digit=2:40, others=0.3:20")
    assert several.guidance_interval == "digit=2:40,others=0.3:20" and several.intervals.others == (0.3, 20.0)


def test_the_guidance_interval_depends_on_the_size() -> None:
    assert default_interval(28) == (1.0, 1000.0) and default_interval(64) == (0.2, 3.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma_min": 0, "fixed_point": 0, "solver": "ddim"}, "sigma_min 0: needs explicit steps"),
        ({"sigma_min": 0, "grid": "uniform"}, "sigma_min 0: needs explicit steps"),
        ({"sigma_min": 1e-6}, "sigma_min 1e-06: must be 0, or at least 0.001"),
        ({"sigma_min": 0, "levels": (9.0, 1.0), "solver": "2m"}, "sigma_min 0: needs explicit steps"),
        ({"levels": (1.0, 9.0)}, "levels 1.0 9.0: must be two or more, descending"),
        ({"levels": (9.0,)}, "levels 9.0: must be two or more, descending"),
        ({"steps": 0}, "steps 0: must be an integer, at least 1"),
        ({"steps": 2.5}, "steps 2.5: must be an integer, at least 1"),
        ({"grid": "square"}, "grid square: must be one of log-sigma, edm, uniform"),
        ({"solver": "2m", "fixed_point": 2}, "solver 2m fixed_point 2: 2m takes no fixed-point iterations"),
        ({"guidance": 0}, "guidance 0: must be a number, more than 0"),
        ({"guidance_interval": (5, 1)}, "guidance_interval 5 1: the first must not be above the second"),
        ({"guidance_interval": "digit=5:1,others=1:2"}, "guidance_interval digit=5:1: the first must not be above"),
        (
            {"guidance_interval": "digit=1:5"},
            "guidance_interval digit=1:5: must be two numbers, at least 0, or as NAME",
        ),
        ({"guidance_interval": "digit=1:2,others=1:2", "abduction": "dynamic"}, "must be two numbers"),
        ({"guidance": "do.digit=3", "abduction": "guided"}, "cannot use `do` weights in guidance"),
        ({"guidance": "do=3", "abduction": "guided"}, "cannot use `do` weights in guidance"),
        ({"guidance": "do=3", "abduction": "residual"}, "cannot use `do` weights in guidance"),
        ({"guidance": "digit=3", "abduction": "dynamic"}, "aligns one token to one weight"),
        ({"abduction": "dynamic", "solver": "trapezoid"}, "solver trapezoid: follows the steps of ddim alone"),
        ({"cta_lr": 0}, "cta_lr 0: must be a number, more than 0"),
    ],
)
def test_refused(settings: dict[str, Any], message: str) -> None:
    """In one line, in Python's words."""
    with pytest.raises(InputError) as error:
        Sampling(**settings)
    assert str(error.value).find(message) >= 0, str(error.value)


def test_the_published_settings_are_allowed() -> None:
    published = {"guidance_interval": (0, 1000), "steps": 1000, "grid": "uniform", "sigma_min": 0}
    assert Sampling(**published, solver="ddim", fixed_point=0).ode_solver == Solver("ddim", 0)
