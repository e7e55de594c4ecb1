"""The procedure of the paper's code: against its recursion written out, as a bundle of settings, and what it clamps."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dscm.diffusion import published
from dscm.diffusion.process import EpsFn, linear_schedule
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError
from dscm.graphs import get_graph
from dscm.settings import change, complete
from tests.support.networks import F64, GRAPH, PARENTS, X, make

T = 12
SCHEDULE = linear_schedule(T, 0.01, 0.5)
GRID = torch.linspace(T, 0, T + 1, dtype=F64)


def drift(x: Tensor, t: Tensor) -> Tensor:
    """Predict noise that depends on the timestep and leads clean images beyond [-1, 1]."""
    return (x * t[:, None, None, None]).sin() - 0.5 * x


def walk(eps_fn: EpsFn, x: Tensor, timesteps: list[int], next_levels: list[float]) -> Tensor:
    """Follow DDIM steps from timestep to timestep, where the level after the last one may be 0 or 1."""
    levels = SCHEDULE.alpha_bar(GRID.flip(0)).tolist()
    for t, after in zip(timesteps, next_levels):
        a, eps = levels[t], eps_fn(x, torch.full((len(x),), t, dtype=F64))
        clean = ((x - (1 - a) ** 0.5 * eps) / a**0.5).clamp(-1, 1)
        x = after**0.5 * clean + (1 - after) ** 0.5 * (x - a**0.5 * clean) / (1 - a) ** 0.5
    return x


def test_the_recursion() -> None:
    """Up, the image is at level 1 and the last step ends at ᾱ = 0; down, the noise is at level T, the end at ᾱ = 1."""
    levels = SCHEDULE.alpha_bar(GRID.flip(0)).tolist()
    x, up = 2 * X - 1, list(range(1, T + 1))
    noise = published.abduct(drift, x, SCHEDULE, GRID)
    torch.testing.assert_close(noise, walk(drift, x, up, [*levels[2:], 0.0]), rtol=0, atol=1e-9)
    image = published.predict(drift, noise, SCHEDULE, GRID)
    torch.testing.assert_close(image, walk(drift, noise, up[::-1], levels[T - 1 :: -1]), rtol=0, atol=1e-9)
    assert image.abs().max() == 1


def test_the_mechanism_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unguided up, guided at every level down; on a few of its timesteps."""
    assert make().using(published=True).sampling.timesteps(linear_schedule()).tolist() == list(range(1000, -1, -1))
    monkeypatch.setattr(Sampling, "timesteps", lambda *_: torch.tensor([1000, 300, 40, 1, 0], dtype=F64))
    model = make().using(published=True, guidance=2.0)
    parents = {name: value[:2] for name, value in PARENTS.items()}
    noise = model.abduct(X[:2], parents)
    grid, pa = model.sampling.timesteps(model.schedule), model.scaling(parents)
    c = torch.cat([noise.z, pa], dim=1)
    assert torch.equal(noise.u, published.abduct(model.eps(c), X[:2], model.schedule, grid))

    def doubled(x: Tensor, t: Tensor) -> Tensor:
        null = model.eps(model.null.expand_as(c))(x, t)
        return null + 2 * (model.eps(c)(x, t) - null)

    wanted = published.predict(doubled, noise.u, model.schedule, grid)
    torch.testing.assert_close(model.predict(noise, parents), wanted, rtol=0, atol=1e-7)


def test_it_stands_for_its_settings() -> None:
    sampling = change(Sampling(), {"published": True, "guidance": 3.0}, "spatial")
    assert (sampling.steps, sampling.grid, sampling.sigma_min) == (1000, "uniform", 0)
    assert (sampling.ode_solver.kind, sampling.ode_solver.evaluations) == ("ddim", 0)
    assert sampling.guidance_interval == (0, 1000) and sampling.weights.others == 3
    assert complete(Sampling, {"published": False, "steps": 5}) == {"published": False, "steps": 5}


def test_the_interval_may_be_chosen() -> None:
    """So that what the solver does and what the interval does can be told apart."""
    sampling = change(Sampling(), {"published": True, "guidance_interval": (1.0, 1000.0)}, "spatial")
    assert sampling.guidance_interval == (1, 1000) and sampling.steps == 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 20}, "steps 20: contradicts published, which stands for 1000"),
        ({"solver": "trapezoid"}, "solver trapezoid: contradicts published, which stands for ddim"),
        ({"fixed_point": 2}, "fixed_point 2: contradicts published, which stands for 0"),
        ({"abduction": "guided"}, "abduction guided: contradicts published, which stands for semantic"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    """Whether they come together or one after the other."""
    with pytest.raises(InputError, match=message):
        change(Sampling(), {"published": True, **changes}, "spatial")
    with pytest.raises(InputError, match=message):
        change(change(Sampling(), {"published": True}, "spatial"), changes, "spatial")


def test_slants_of_counterfactuals_are_clamped() -> None:
    """Set or predicted, and of digits alone; the noise of the slant is that of the observed one."""
    scm, plain = published.limit(GRAPH, Sampling(**published.IMPLIED, published=True)).scm(), GRAPH.scm()
    obs = {"thickness": 3.0, "intensity": 200.0, "digit": 9, "slant": 0.6}
    batch = {name: torch.tensor([value]) for name, value in obs.items()}
    noise = scm.abduct(batch)
    assert noise["slant"] == plain.abduct(batch)["slant"]
    for do in ({}, {"slant": 0.7}, {"thickness": 2.0}):
        assert scm.predict(noise, do)["slant"] == 0.5 and scm.predict(noise, do)["digit"] == 9
    assert scm.predict(noise, {"slant": -0.7})["slant"] == -0.5 and scm.predict(noise, {"slant": 0.1})["slant"] == 0.1
    assert published.limit(get_graph("embed"), Sampling(**published.IMPLIED, published=True)).limits == {}
    assert published.limit(GRAPH, Sampling()) is GRAPH
