"""The causal graphs of the built-in data sets, as data."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from dscm.errors import InputError
from dscm.mechanisms import CategoricalRoot, GammaRoot, LinearGaussian, Mechanism, ScaledSigmoid
from dscm.scm import SCM


@dataclass(frozen=True)
class Variable:
    """Describe one node of a graph.

    Arguments: `name`; `kind`; `parents` by name; the domain from `low` to `high` in `unit`, in which an intervention
    must lie (a class is a whole number from 0 to `high`; a circular variable has period 1); `mechanism` makes the
    mechanism (None for an image).
    """

    name: str
    kind: Literal["continuous", "circular", "categorical", "image"]
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
    def domain(self) -> str:
        """Write the domain for a reader, as in `0.5 to 10 px`."""
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()

    def check(self, value: float) -> None:
        """Raise `InputError` if `value` is outside the domain or is no class."""
        whole = "a whole number, " if self.kind == "categorical" else ""
        if not self.low <= value <= self.high or (whole and value != int(value)):
            raise InputError(f"--do {self.name}={value:g}: {self.name} must be {whole}{self.domain}")


@dataclass(frozen=True)
class Graph:
    """Name a set of variables, one of which is the image, with its number of channels (1 is grey, 3 is colour)."""

    name: str
    variables: tuple[Variable, ...]
    image_channels: int = 1

    @property
    def attributes(self) -> tuple[Variable, ...]:
        """List the variables that are not the image, in declaration order."""
        return tuple(variable for variable in self.variables if variable.kind != "image")

    @property
    def image_parents(self) -> tuple[str, ...]:
        """List the names of the parents of the image."""
        return next(variable.parents for variable in self.variables if variable.kind == "image")

    def scm(self, image: Mechanism | None = None) -> SCM:
        """Build the causal model, with `image` as the mechanism of the image; without it, the attributes alone."""
        mechanisms = {variable.name: variable.mechanism() for variable in self.attributes}
        if image is not None:
            mechanisms["image"] = image
        return SCM(mechanisms, {variable.name: variable.parents for variable in self.variables})

    def check_do(self, do: Mapping[str, float]) -> None:
        """Raise `InputError` if `do` names an unknown attribute, or holds a value outside its domain."""
        attributes = {variable.name: variable for variable in self.attributes}
        for name, value in do.items():
            if name not in attributes:
                known = ", ".join(f"{variable.name} ({variable.domain})" for variable in self.attributes)
                raise InputError(f"unknown variable '{name}' in --do; known: {known}")
            attributes[name].check(value)


def get_graph(name: str) -> Graph:
    """Return the built-in graph called `name`. Raises `InputError`, listing the names, if there is none."""
    if name not in GRAPHS:
        raise InputError(f"unknown graph '{name}'; known: {', '.join(GRAPHS)}")
    return GRAPHS[name]


def _image(*parents: str) -> Variable:
    """Describe the image, in [-1, 1], with these parents."""
    return Variable("image", "image", parents, -1, 1)


# Morpho-MNIST: t = 0.5 + Gamma(10, rate 5); i = 64 + 191 σ(0.5 ε + 2 t - 5); slant° = -27 + 6 digit + 3 ε.
_grey = partial(ScaledSigmoid, low=64.0, high=255.0, weights={"thickness": 2.0}, bias=-5.0, scale=0.5)
_lean = partial(LinearGaussian, {"digit": math.radians(6)}, bias=math.radians(-27), scale=math.radians(3))
_thickness = Variable("thickness", "continuous", (), 0.5, 10, "px", partial(GammaRoot, shift=0.5, shape=10, rate=5.0))
_intensity = Variable("intensity", "continuous", ("thickness",), 0, 255, "grey levels", _grey)
_digit = Variable("digit", "categorical", (), 0, 9, mechanism=partial(CategoricalRoot, 10))
_slant = Variable("slant", "continuous", ("digit",), -1.2, 1.2, "rad", _lean)

# Hue is a fraction of the colour circle. Its equation is linear, so it may leave [0, 1]: there it is meant modulo 1.
_colour = partial(LinearGaussian, {"digit": 0.1}, bias=0.05, scale=0.05)
_hue = Variable("hue", "circular", ("digit",), 0, 1, "of the colour circle", _colour)

GRAPHS: Mapping[str, Graph] = {
    graph.name: graph
    for graph in (
        Graph(
            "morphomnist",
            (_thickness, _intensity, _digit, _slant, _image("thickness", "intensity", "digit", "slant")),
        ),
        Graph(
            "colour-morphomnist",
            (_thickness, _digit, _slant, _hue, _image("thickness", "digit", "slant", "hue")),
            image_channels=3,
        ),
        Graph("morphomnist-digit", (_digit, _image("digit"))),
        Graph("morphomnist-intensity", (_thickness, _intensity, _image("thickness", "intensity"))),
    )
}
