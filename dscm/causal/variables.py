"""The variables of a causal graph, as data."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dscm.causal.mechanisms import Mechanism
from dscm.errors import InputError, option

Kind = Literal["continuous", "positive", "bounded", "circular", "categorical", "binary", "image"]
TURNS = 1000.0  # of a circular variable, beyond which float32 does not tell its angle


@dataclass(frozen=True)
class Variable:
    """One node of a graph.

    Args:
        name: the name of the variable.
        kind: a continuous variable takes any value, a positive one those above 0, a bounded one those from ``low`` to
            ``high``; a circular one has period 1.
        parents: by name.
        low, high: the domain, in which interventions must lie; a class is an integer from 0 to ``high``.
        unit: the unit of the values.
        mechanism: makes the mechanism; None for an image, and where it is fitted to data.
        labels: names of the classes.
    """

    name: str
    kind: Kind
    parents: tuple[str, ...]
    low: float
    high: float
    unit: str = ""
    mechanism: Callable[[], Mechanism[Any]] | None = None
    labels: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Count the classes of a categorical variable; zero for the others."""
        return int(self.high) + 1 if self.kind == "categorical" else 0

    @property
    def real(self) -> bool:
        """Tell whether the values are real numbers."""
        return self.kind in ("continuous", "positive", "bounded")

    @property
    def discrete(self) -> bool:
        """Tell whether the values are classes."""
        return self.kind in ("categorical", "binary")

    @property
    def learned(self) -> bool:
        """Tell whether this is an attribute whose mechanism is fitted to data."""
        return self.mechanism is None and self.kind != "image"

    @property
    def domain(self) -> str:
        """Write the domain for a reader, as in ``0.5 to 10 px``."""
        if self.kind == "binary":
            return "0 or 1"
        if self.labels and self.labels != tuple(map(str, range(self.classes))):
            return ", ".join(self.labels)
        if self.high == math.inf:
            return (f"more than {self.low:g}" if self._open else "any finite number") + f" {self.unit}".rstrip()
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()

    @property
    def _open(self) -> bool:
        """Tell whether the lowest value itself is outside the domain: of a positive variable without a range."""
        return self.kind == "positive" and self.high == math.inf

    @property
    def ends(self) -> tuple[float, float]:
        """Return the lowest and the highest value of a real variable."""
        return (torch.finfo(torch.float32).tiny if self._open else self.low), self.high

    @property
    def allowed(self) -> str:
        """Write which values are allowed, as in ``a whole number, 0 to 9``."""
        counted = self.kind == "categorical" and self.labels == tuple(map(str, range(self.classes)))
        return f"a whole number, {self.domain}" if counted else self.domain

    def contains(self, value: float) -> bool:
        """Tell whether a value is in the domain, as `inside` does."""
        return bool(self.inside(torch.tensor(as_float32(value))))

    def inside(self, values: Tensor) -> Tensor:
        """Tell of each value whether it is finite, in the domain, and a class if it must be one, all in float32.

        Args:
            values: any shape.

        Returns:
            bool, the same shape. A circular variable goes around, as far as float32 still tells its angle.
        """
        values = values.float()
        if self.kind == "circular":
            return values.abs() <= TURNS
        low, high = as_float32(self.low), as_float32(self.high)
        found = values.isfinite() & (low <= values) & (values <= high)
        if self._open:
            found &= values > low
        return found & (values == values.round()) if self.discrete else found

    def show(self, value: float) -> str:
        """Write a value for a table: a class by its label, a number as `write_number` does."""
        return self.labels[int(value)] if self.labels else write_number(value)

    def check(self, value: float) -> None:
        """Check that an intervention may set the variable to a value.

        Raises:
            InputError: it is outside the domain, or no class.
        """
        if not self.contains(value):
            raise InputError(f"{option('do')} {self.name}={value:g}: {self.name} must be {self.allowed}")


def write_number(value: float) -> str:
    """Write a number in the shortest form that reads back as the same float32."""
    return str(np.float32(value)).removesuffix(".0")


def as_float32(value: float) -> float:
    """Round a number to float32, in which values are kept; one beyond its range becomes infinite."""
    try:
        number = float(value)
    except OverflowError:  # of a whole number
        number = math.inf if value > 0 else -math.inf
    return torch.tensor(number, dtype=torch.float64).float().item()
