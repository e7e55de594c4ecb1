"""Noise and images correspond one to one: what was changed is changed back, what was drawn is abducted again."""

import pytest
import torch
from test_image import PARENTS, X, make

from dscm.diffusion.sampling import Sampling
from dscm.diffusion.solvers import Solver


@torch.no_grad()
@pytest.mark.parametrize(("weight", "abduction"), [(1.0, "semantic"), (1.5, "guided")])
def test_a_spatial_mechanism_reverses_exactly(weight: float, abduction: str) -> None:
    """Noise and images correspond one to one given any parents: x → do → x* → do(back) is x, again and again."""
    model = make(0)
    solver = Solver("trapezoid", 60)
    model.sampling = Sampling(weight, (0.0, 1000.0), 8, solver=solver, abduction=abduction)
    other, x = {name: value.flip(0) for name, value in PARENTS.items()}, X
    for _ in range(3):
        changed = model.predict(model.abduct(x, PARENTS), other)
        assert (changed - X).abs().max() > 0.01
        x = model.predict(model.abduct(changed, other), PARENTS)
    torch.testing.assert_close(x, X, rtol=0, atol=1e-8)


@torch.no_grad()
def test_what_was_drawn_is_abducted_again() -> None:
    """An image made from drawn noise gives that noise back."""
    model = make(0)
    model.sampling = Sampling(1.0, steps=8, solver=Solver("trapezoid", 60))
    noise = model.sample_noise(6, torch.Generator().manual_seed(0))
    noise = noise._replace(u=noise.u.double(), z=noise.z.double())
    found = model.abduct(model.predict(noise, PARENTS), PARENTS)
    torch.testing.assert_close(found.u, noise.u, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "change", [{"grid": "log-sigma", "solver": Solver("ddim", 0)}, {"grid": "uniform", "solver": Solver("ddim", 1)}]
)
def test_the_clean_image_is_only_for_explicit_steps(change: dict) -> None:
    """σ_min = 0 is no level of the log σ grid, and no implicit step leads away from it."""
    with pytest.raises(ValueError, match="σ_min = 0 needs explicit steps"):
        Sampling(sigma_min=0.0, **change)
    with pytest.raises(ValueError, match="at least 0.001"):
        Sampling(sigma_min=1e-6)
    Sampling(sigma_min=0.0, grid="uniform", solver=Solver("ddim", 0))
