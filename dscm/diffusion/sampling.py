"""Settings of a trained diffusion mechanism: how it abducts and predicts."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dscm.diffusion.alignment import Alignment
from dscm.diffusion.guidance import Interval, Intervals, Weights
from dscm.diffusion.process import SIGMA_MIN, Schedule, make_grid, stretch_grid
from dscm.diffusion.published import IMPLIED, PREFERRED, SWITCH
from dscm.diffusion.solvers import Solver
from dscm.errors import InputError, option
from dscm.settings import check, refuse_contradiction, setting

PER_STEP = ("dynamic", "residual")  # abductions whose noise has one part for each ddim step
STEPS = 20  # each way, unless levels were fitted
SMALL = 40  # largest height and width, in pixels, of images whose attributes are decided at large noise levels
EVALUATIONS = {"ddim": 2, "2m": 0, "trapezoid": 1}  # default fixed-point iterations of each solver


@dataclass(frozen=True)
class Trajectory:
    """The path between image and noise: its steps, and the solver of the ODE along it.

    Raises:
        InputError: a value is not allowed, or grid, solver and σ_min exclude each other.
    """

    steps: int | None = setting(
        None, "Steps each way. Default: with the trapezoid as many as were fitted to the model, or else 20.",
        low=1, high=10_000
    )  # fmt: skip
    grid: Literal["log-sigma", "edm", "uniform"] | None = setting(
        None, "Spacing of the steps; uniform in t, the paper's, needs explicit steps, or hundreds. "
        "Default: as fitted to the model, or log-sigma."
    )  # fmt: skip
    sigma_min: float | None = setting(
        None, "Noise level of the image, at least 0.001; or 0, the paper's, with explicit steps. "
        "Default: as fitted to the model, or 0.01.", low=0, high=1
    )  # fmt: skip
    levels: tuple[float, ...] | None = setting(
        None, "Noise levels σ, descending, that were fitted to the model; a grid that is named has none.", above=0
    )
    solver: Literal["ddim", "2m", "trapezoid"] | None = setting(
        None, "ddim, the paper's; 2m, of second order; trapezoid, of second order and exactly invertible. "
        "Default: trapezoid; ddim for dynamic and residual abduction."
    )  # fmt: skip
    fixed_point: int | None = setting(
        None, "Maximum fixed-point iterations per implicit step; 0 is explicit, the paper's. "
        "Default: ddim 2, trapezoid 1.", low=0, high=100
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Check each setting, and the settings against each other."""
        check(self)
        if self.grid is not None:
            object.__setattr__(self, "levels", None)
        if self.levels and (len(self.levels) < 2 or any(a <= b for a, b in zip(self.levels, self.levels[1:]))):
            raise InputError(f"{option('levels')} {' '.join(map(str, self.levels))}: must be two or more, descending")
        lowest, implicit = self.lowest, self.ode_solver.evaluations > 0
        if not lowest and (self.spacing == "log-sigma" or self.levels or implicit):
            raise InputError(
                f"{option('sigma_min')} 0: needs explicit steps ({option('fixed_point')} 0) on a uniform or edm grid"
            )
        if 0 < lowest < 1e-3:
            raise InputError(f"{option('sigma_min')} {lowest:g}: must be 0, or at least 0.001: "
                             "smaller values vanish in float32")  # fmt: skip

    @property
    def default_solver(self) -> Literal["ddim", "2m", "trapezoid"]:
        """Return the solver that is used unless one is named."""
        return "trapezoid"

    @property
    def ode_solver(self) -> Solver:
        """Return the solver with its number of fixed-point iterations."""
        kind = self.solver or self.default_solver
        evaluations = EVALUATIONS[kind] if self.fixed_point is None else self.fixed_point
        try:
            return Solver(kind, evaluations)
        except ValueError as error:
            raise InputError(f"{option('solver')} {kind} {option('fixed_point')} {evaluations}: {error}") from error

    @property
    def count(self) -> int:
        """Return the number of steps; levels were fitted to the errors of the trapezoid, and are too few for others."""
        fitted = len(self.levels) - 1 if self.levels and self.ode_solver.kind == "trapezoid" else STEPS
        return self.steps or fitted

    @property
    def spacing(self) -> str:
        """Name the grid, one that was fitted by its levels."""
        return f"σ = {', '.join(f'{sigma:g}' for sigma in self.levels)}" if self.levels else self.grid or "log-sigma"

    @property
    def lowest(self) -> float:
        """Return the noise level that is taken for the image."""
        fitted = self.levels[-1] if self.levels else SIGMA_MIN
        return fitted if self.sigma_min is None else self.sigma_min

    def timesteps(self, schedule: Schedule) -> Tensor:
        """Return the timesteps to visit, descending, (K + 1,)."""
        if self.levels:
            return stretch_grid(schedule, self.count, self.levels, self.lowest)
        return make_grid(schedule, self.count, self.grid or "log-sigma", self.lowest)


@dataclass(frozen=True)
class Sampling(Trajectory):
    """How a trained diffusion mechanism abducts and predicts.

    Guidance applies to the prediction; the inversion is unguided, unless abduction is ``guided``. On digits late steps,
    at small σ, amplify errors of the network: there guidance overshoots thickness and intensity. On larger images early
    steps change what no query intervened on. ``guidance_interval`` therefore depends on the size: `default_interval`.

    Raises:
        InputError: a value is not allowed, or settings exclude each other.
    """

    guidance: Weights | float | str = setting(
        1.5, "Guidance weight ω; or one for each group of parents, as in thickness=3,others=1 or, for the variables "
        "that a query intervenes on, do=3,do.slant=2,others=1. Default: what the model's checkpoint says, or 1.5."
    )  # fmt: skip
    guidance_interval: tuple[float, float] | str = setting(
        (1.0, 1000.0), "Noise levels σ at which the prediction is guided, the paper's are 0 1000; or those of each "
        "parent, as in slant=2:40,others=0.3:20. "
        "Default: what the model's checkpoint says, or 1 1000 for digits, 0.2 3 for larger images.", low=0
    )  # fmt: skip
    abduction: Literal["semantic", "guided", "dynamic", "residual"] = setting(
        "semantic", "semantic: z and u, by unguided inversion (u alone, if the mechanism is spatial); guided: by "
        "inversion of the guided field; dynamic: also one null token per step; residual: also the noise that each "
        "guided step lacks."
    )  # fmt: skip
    corrections: int = setting(
        0, "Rounds in which the images of an intervention are measured, and made again by a model that is told in "
        "addition what they missed; where a data set's attributes are measured.", low=0, high=100
    )  # fmt: skip
    precision: Literal["float32", "bfloat16"] = setting("float32", "Of the network; steps and sums stay float32.")
    sample_code: bool = setting(False, "Abduct a sample of the code, or of the latents, not their mean.")
    cta_lr: float = setting(0.03, "Step size η of the alignment of dynamic abduction.", above=0)
    cta_steps: int = setting(1, "Gradient steps of the alignment at each timestep; the paper's is 1.", low=1, high=1000)
    cta_optimizer: Literal["sgd", "adam"] = setting("sgd", "Optimiser of the alignment; the paper's is sgd.")
    published: bool = setting(False, SWITCH, implies=IMPLIED, prefers=PREFERRED)

    def __post_init__(self) -> None:
        """Check each setting, and the settings against each other."""
        object.__setattr__(self, "guidance", Weights.read(self.guidance))
        if isinstance(self.guidance_interval, str):
            object.__setattr__(self, "guidance_interval", self.intervals.plain)
        for name, value in IMPLIED.items() if self.published else ():
            refuse_contradiction("published", name, value, getattr(self, name))
        super().__post_init__()
        intervals = self.intervals  # whose ends are in order
        exclusive = f"{option('abduction')} {self.abduction}"
        if self.published and self.abduction != "semantic":
            raise InputError(f"{exclusive}: contradicts {option('published')}, which stands for semantic")
        if self.published and self.corrections:
            raise InputError(f"{option('corrections')}: contradicts {option('published')}, which has none")
        if self.abduction in PER_STEP and self.ode_solver.kind != "ddim":
            raise InputError(f"{exclusive} {option('solver')} {self.ode_solver.kind}: follows the steps of ddim alone")
        if self.abduction == "dynamic" and self.weights.groups:
            raise InputError(f"{exclusive}: aligns one token to one weight, {option('guidance')} must be one number")
        if self.abduction == "dynamic" and intervals.groups:
            words = f"aligns one token at one interval, {option('guidance_interval')} must be two numbers"
            raise InputError(f"{exclusive}: {words}")
        if self.abduction in ("guided", "residual") and self.weights.by_target:
            raise InputError(f"{exclusive}: cannot use `do` weights in {option('guidance')}: abduction precedes the "
                             "intervention; name the parents")  # fmt: skip

    @property
    def default_solver(self) -> Literal["ddim", "2m", "trapezoid"]:
        """Return the solver that suits the abduction."""
        return "ddim" if self.abduction in PER_STEP else "trapezoid"

    @property
    def weights(self) -> Weights:
        """Return ω of every group."""
        return Weights.read(self.guidance)

    @property
    def intervals(self) -> Intervals:
        """Return the noise levels at which each group is guided."""
        return Intervals.read(self.guidance_interval)

    @property
    def alignment(self) -> Alignment:
        """Return the settings of the alignment."""
        return Alignment(self.cta_lr, self.cta_steps, self.cta_optimizer)

    @property
    def guides_abduction(self) -> bool:
        """Tell whether the abducted noise depends on the guidance."""
        return self.abduction != "semantic"


def default_interval(size: int) -> Interval:
    """Return the default guidance interval of images of ``size`` × ``size`` pixels."""
    return (1.0, 1000.0) if size <= SMALL else (0.2, 3.0)
