"""How a trained diffusion mechanism abducts and predicts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from dscm.diffusion.process import SIGMA_MIN, Schedule, make_grid
from dscm.diffusion.alignment import Alignment
from dscm.diffusion.guidance import DO, Weights
from dscm.causal.image_mechanism import ImageMechanism
from dscm.diffusion.solvers import Solver

FOLLOWING = ("dynamic", "residual")  # abductions that keep something for each step of ddim
SMALL = 40  # pixels a side, at most, of images whose attributes are decided at large noise levels


@dataclass(frozen=True)
class Sampling:
    """How a trained mechanism abducts and predicts.

    Args:
        guidance: ω of the prediction, or of groups of parents; the inversion is unguided.
        interval: the noise levels σ from which and up to which the prediction is guided; elsewhere ω is 1. On digits
            late steps, at small σ, amplify errors of the network: there guidance overshoots thickness and intensity.
            On larger images early ones change what no one asked for: a `DiffusionMechanism` of more than `SMALL` pixels
            a side starts with 0.2 to 3.
        steps: K, each way.
        grid: ``log-sigma``, ``edm`` or ``uniform`` (the paper's; its coarse end asks for explicit steps, or hundreds).
        sigma_min: the noise level at which images enter and leave, from 0.001; or the paper's 0, for explicit steps.
        solver: of the ODE; None is the trapezoid, but ``ddim`` where dynamic and residual abduction follow its steps.
        clip: clamp x̂_0 while generating.
        precision: of the network alone: ``float32``, or whatever its weights have, or ``bfloat16``.
        abduction: ``semantic`` keeps z and u (a spatial mechanism, u), by the unguided inversion; ``guided`` inverts
            the guided field of the factual parents instead; ``dynamic`` also tunes null tokens to the guidance;
            ``residual`` keeps what each guided step lacks. With ω = 1 there is nothing to tune.
        alignment: how the tokens of dynamic abduction are tuned.
        intervened: the variables that are being intervened on, which `Weights` may ask for, and in which images that
            changes them, bool (B,).

    Raises:
        ValueError: abduction, solver, guidance or σ_min do not go together.
    """

    guidance: float | Weights = 1.5
    interval: tuple[float, float] = (1.0, 1000.0)
    steps: int = 20
    grid: Literal["log-sigma", "edm", "uniform"] = "log-sigma"
    sigma_min: float = SIGMA_MIN
    solver: Solver | None = None
    clip: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    abduction: Literal["semantic", "guided", "dynamic", "residual"] = "semantic"
    alignment: Alignment = Alignment()
    intervened: Mapping[str, Tensor | bool] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if not self.sigma_min and (self.grid == "log-sigma" or self.walk.evaluations):
            raise ValueError("σ_min = 0 needs explicit steps on a uniform or edm grid")
        if 0 < self.sigma_min < 1e-3:
            raise ValueError("σ_min is 0, or at least 0.001: float32 cannot tell less from none")
        if self.abduction in FOLLOWING and self.walk.kind != "ddim":
            raise ValueError(f"{self.abduction} abduction follows the steps of ddim, not of {self.walk.kind}")
        if self.abduction == "dynamic" and getattr(self.guidance, "own", ()):
            raise ValueError("dynamic abduction tunes one token to one weight for all parents")
        if self.abduction in ("guided", "residual") and DO in dict(getattr(self.guidance, "own", ())):
            raise ValueError(
                f"{self.abduction} abduction comes before what is intervened on is known; name the parents"
            )

    @property
    def walk(self) -> Solver:
        """Return the solver, where none was named that which suits the abduction."""
        return self.solver or Solver(*("ddim", 2) if self.abduction in FOLLOWING else ("trapezoid", 1))

    def grid_of(self, schedule: Schedule) -> Tensor:
        """Return the timesteps to visit, (K + 1,)."""
        return make_grid(schedule, self.steps, self.grid, self.sigma_min)

    @property
    def weights(self) -> Weights:
        """Return ω of every group, as of now."""
        weights = self.guidance if isinstance(self.guidance, Weights) else Weights(self.guidance)
        return weights.resolve(self.intervened)


@contextmanager
def intervening(
    mechanism: ImageMechanism, do: Mapping[str, float | Tensor], obs: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Tell a mechanism what is intervened on while a block runs, should its guidance depend on that.

    Args:
        mechanism: of the image.
        do: the intervention.
        obs: the factual values; an image in which a variable keeps its value is not guided towards it. None: all are.
    """
    sampling = getattr(mechanism, "sampling", None)
    if sampling is None:
        yield
        return
    obs = obs or {}
    changed = {k: torch.as_tensor(v).to(obs[k]) != obs[k] if k in obs else True for k, v in do.items()}
    mechanism.sampling = replace(sampling, intervened=changed)
    try:
        yield
    finally:
        mechanism.sampling = sampling


def usual_interval(size: int) -> tuple[float, float]:
    """Return the noise levels at which images of ``size`` pixels a side are guided unless told otherwise."""
    return (1.0, 1000.0) if size <= SMALL else (0.2, 3.0)
