"""The variables of a causal graph, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dscm.errors import InputError
from dscm.mechanisms import Mechanism


@dataclass(frozen=True)
class Variable:
    """Describe one node of a graph.

    Arguments: `name`; `kind` (a continuous variable takes any value, a positive one those above 0, a bounded one those
    from `low` to `high`); `parents` by name; the domain from `low` to `high` in `unit`, in which an intervention
    must lie (a class is a whole number from 0 to `high`, of a binary variable 0 or 1; a circular variable has period
    1); `mechanism` makes the mechanism (None for an image, and where it is learned from data).
    """

    name: str
    kind: Literal["continuous", "positive", "bounded", "circular", "categorical", "binary", "image"]
    parents: tuple[str, ...]
    low: float
    high: float
    unit: str = ""
    mechanism: Callable[[], Mechanism] | None = None

    @property
    def classes(self) -> int:
        """Count the classes of a categorical variable; zero for the others."""
        return int(self.high) + 1 if self.kind == "categorical" else 0

    @property
    def real(self) -> bool:
        """Tell whether the values are numbers on a line."""
        return self.kind in ("continuous", "positive", "bounded")

    @property
    def discrete(self) -> bool:
        """Tell whether the values are classes."""
        return self.kind in ("categorical", "binary")

    @property
    def learned(self) -> bool:
        """Tell whether the mechanism of this attribute is fitted to data."""
        return self.mechanism is None and self.kind != "image"

    @property
    def domain(self) -> str:
        """Write the domain for a reader, as in `0.5 to 10 px`."""
        if self.kind == "binary":
            return "0 or 1"
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()

    def check(self, value: float) -> None:
        """Raise `InputError` if `value` is outside the domain or is no class."""
        whole = "a whole number, " if self.kind == "categorical" else ""
        if not self.low <= value <= self.high or (self.discrete and value != int(value)):
            raise InputError(f"--do {self.name}={value:g}: {self.name} must be {whole}{self.domain}")
