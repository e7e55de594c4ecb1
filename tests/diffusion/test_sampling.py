"""Settings of sampling that do not go together are refused."""

import pytest

from dscm.diffusion.guidance import Weights
from dscm.diffusion.sampling import Sampling
from dscm.diffusion.solvers import Solver


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


@pytest.mark.parametrize("abduction", ["guided", "residual"])
def test_what_is_not_yet_known_is_not_amplified(abduction: str) -> None:
    with pytest.raises(ValueError, match="comes before what is intervened on is known"):
        Sampling(Weights.parse("do=3"), abduction=abduction)


def test_dynamic_abduction_knows_one_weight() -> None:
    with pytest.raises(ValueError, match="one weight for all parents"):
        Sampling(Weights.parse("digit=3"), abduction="dynamic")


def test_alignment_needs_the_steps_it_was_made_for() -> None:
    with pytest.raises(ValueError, match="dynamic abduction follows the steps of ddim, not of trapezoid"):
        Sampling(abduction="dynamic", solver=Solver("trapezoid", 1))
