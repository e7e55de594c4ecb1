"""The path between image and noise that a row of the tables follows, and the words that tell several apart."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from dscm.diffusion.guidance import Interval, Intervals, Weights
from dscm.diffusion.sampling import Sampling, Trajectory


@dataclass(frozen=True)
class Route:
    """The path of a row, as the settings of its model resolve.

    Args:
        steps: each way.
        grid: their spacing; levels that were fitted are written out.
        sigma_min: the noise level that is taken for the image.
        solver: of the ODE.
        fixed_point: its evaluations in each implicit step.
        guidance_interval: noise levels at which the prediction is guided, as `Intervals` reads them; None where it is
            not guided at all.
    """

    steps: int
    grid: str
    sigma_min: float
    solver: str
    fixed_point: int
    guidance_interval: Interval | str | None = None

    @classmethod
    def of(cls, sampling: Trajectory) -> "Route":
        """Resolve the settings of a mechanism."""
        guides = isinstance(sampling, Sampling) and not sampling.weights.trivial
        return cls(
            steps=sampling.count,
            grid=sampling.spacing,
            sigma_min=sampling.lowest,
            solver=sampling.ode_solver.kind,
            fixed_point=sampling.ode_solver.evaluations,
            guidance_interval=sampling.intervals.plain if isinstance(sampling, Sampling) and guides else None,
        )

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], guidance: Weights | None) -> "Route | None":
        """Read the entries of a record; None where a mechanism follows no path.

        Args:
            entry: the entries.
            guidance: that of the row: older records name an interval where nothing is guided, too.

        Raises:
            KeyError, TypeError, ValueError: an entry is missing, or is of another type.
        """
        values = {name: entry[name] for name in NAMES}
        if values["steps"] is None:
            return None
        if any(not isinstance(values[name], int | float) for name in ("steps", "sigma_min", "fixed_point")):
            raise TypeError("a number is none")
        interval, guides = values["guidance_interval"], guidance is not None and not guidance.trivial
        if interval is not None:
            interval = Intervals.read(interval if isinstance(interval, str) else tuple(interval)).plain
        values |= {"grid": str(values["grid"]), "guidance_interval": interval if guides else None}
        return cls(**values)

    @property
    def unguided(self) -> "Route":
        """Return the path alone, which rows have in common whether they are guided or not."""
        return replace(self, guidance_interval=None)

    def __str__(self) -> str:
        """Describe the path alone in a few words."""
        implicit = f", implicit steps of {self.fixed_point} evaluation(s)" if self.fixed_point else ""
        fitted = self.grid.startswith("σ")
        grid = f"at {self.grid}" if fitted else f"grid {self.grid} to σ = {self.sigma_min:g}"
        return f"{self.steps} steps of {self.solver}{implicit}, {grid}"


NAMES = tuple(field.name for field in fields(Route))


def find_paths(routes: Iterable[Route | None]) -> list[Route]:
    """List the different paths, in the order in which they first come."""
    return list(dict.fromkeys(route.unguided for route in routes if route))


def find_intervals(routes: Iterable[Route | None]) -> list[Interval | str]:
    """List the different guidance intervals, in the order in which they first come."""
    return list(dict.fromkeys(route.guidance_interval for route in routes if route and route.guidance_interval))


def mark(route: Route | None, routes: Iterable[Route | None]) -> list[str]:
    """Return the words that tell a row's path from those of others: none where all have the same.

    Args:
        route: of the row.
        routes: of all rows of the table, in their order.
    """
    every = list(routes)
    paths, intervals = find_paths(every), find_intervals(every)
    words = []
    if route and len(paths) > 1:
        words.append(f"path {paths.index(route.unguided) + 1}")
    if route and route.guidance_interval and len(intervals) > 1:
        words.append(f"guided at {Intervals.read(route.guidance_interval).words}")
    return words


def describe(routes: Iterable[Route | None]) -> list[str]:
    """Describe the paths of all rows: what they have in common, or that each row has its own.

    Args:
        routes: of all rows of the table, in their order.

    Returns:
        Phrases: of the path, and of the guidance; none of what no row has.
    """
    every = list(routes)
    paths, intervals = find_paths(every), find_intervals(every)
    phrases = [str(path) for path in paths] if len(paths) < 2 else ["each row along its path"]
    if len(intervals) == 1:
        phrases.append(f"guided at {Intervals.read(intervals[0]).words}")
    return phrases + ["each row guided in its interval"] * (len(intervals) > 1)
