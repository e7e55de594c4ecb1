"""The path of a row: as settings resolve, and as records keep it."""

import dataclasses
from typing import Any

import pytest

from dscm.baselines.diffscm import ClassifierSampling
from dscm.diffusion.guidance import Weights
from dscm.diffusion.sampling import Sampling, Trajectory
from dscm.evaluation.route import Route, describe, mark
from dscm.settings import complete

LEVELS = (9.0, 1.0, 0.5)
FITTED = Route(2, "σ = 9, 1, 0.5", 0.5, "trapezoid", 1, (1.0, 1000.0))


@pytest.mark.parametrize(
    ("sampling", "route"),
    [
        (Sampling(), Route(20, "log-sigma", 0.01, "trapezoid", 1, (1.0, 1000.0))),
        (Sampling(levels=LEVELS), FITTED),
        (Sampling(levels=LEVELS, guidance=1), dataclasses.replace(FITTED, guidance_interval=None)),
        (Sampling(levels=LEVELS, solver="ddim"), Route(20, "σ = 9, 1, 0.5", 0.5, "ddim", 2, (1.0, 1000.0))),
        (
            Sampling(guidance_interval=(0.2, 3.0), steps=5, solver="2m"),
            Route(5, "log-sigma", 0.01, "2m", 0, (0.2, 3.0)),
        ),
        (Sampling(**complete(Sampling, {"published": True})), Route(1000, "uniform", 0.0, "ddim", 0, (0.0, 1000.0))),
        (ClassifierSampling(grid="edm"), Route(20, "edm", 0.01, "trapezoid", 1)),
    ],
)
def test_a_path_is_what_the_settings_resolve_to(sampling: Trajectory, route: Route) -> None:
    """And has an interval where guidance changes anything."""
    assert Route.of(sampling) == route


@pytest.mark.parametrize("guidance", [None, Weights(1.0), Weights(1.5)])
def test_a_path_is_read_back_from_json(guidance: Weights | None) -> None:
    """In records of before, an interval also stood where nothing was guided."""
    entry: dict[str, Any] = dataclasses.asdict(FITTED) | {"guidance_interval": [1.0, 1000.0]}
    assert Route.from_json(entry, guidance) == (FITTED if guidance == Weights(1.5) else FITTED.unguided)
    assert Route.from_json(dict.fromkeys(entry), guidance) is None


def test_words_tell_paths_apart_where_they_differ() -> None:
    """An unguided row goes along the path of a guided one; one that has none says nothing."""
    even = Route(20, "log-sigma", 0.01, "trapezoid", 1, (0.2, 3.0))
    assert [mark(route, [FITTED, FITTED.unguided, None]) for route in (FITTED, FITTED.unguided, None)] == [[], [], []]
    routes = [None, FITTED, even, FITTED.unguided]
    assert [mark(route, routes) for route in routes] == [
        [],
        ["path 1", "guided at σ from 1 to 1000"],
        ["path 2", "guided at σ from 0.2 to 3"],
        ["path 1"],
    ]
    assert describe([None]) == [] and describe([FITTED.unguided, None]) == [str(FITTED)]
    assert describe(routes) == ["each row along its path", "each row guided in its interval"]
