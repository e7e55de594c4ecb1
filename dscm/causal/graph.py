"""A causal graph, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dscm.causal.learned import LearnedAttributes
from dscm.causal.mechanisms import Mechanism
from dscm.causal.scm import SCM
from dscm.causal.variables import Variable
from dscm.errors import InputError, option


@dataclass(frozen=True)
class Graph:
    """A set of variables, one of which is the image.

    Args:
        name: the name of the graph.
        variables: in the order of their declaration.
        image_channels: 1 for grey, 3 for colour.
        image_size: height and width in pixels.
        evaluated: the interventions of an evaluation; by default one on each parent of the image. Variables named
            together are set together, binary ones to the same value.
        measured: the attributes that can be computed from the image; an oracle predicts the others.
        data_set: which data set the images are of.
        spec: the content of the graph file.
        built_in: whether its name alone identifies it.
        limits: as in `SCM`.
    """

    name: str
    variables: tuple[Variable, ...]
    image_channels: int = 1
    image_size: int = 28
    evaluated: tuple[tuple[str, ...], ...] = ()
    measured: tuple[str, ...] = ()
    data_set: str = "morphomnist"
    spec: Mapping[str, Any] = field(default_factory=dict)
    built_in: bool = False
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def key(self) -> str | dict[str, Any]:
        """Return what `get_graph` makes this graph from: its name, or its whole file."""
        return self.name if self.built_in else dict(self.spec)

    @property
    def attributes(self) -> tuple[Variable, ...]:
        """List the variables that are not the image, in declaration order."""
        return tuple(variable for variable in self.variables if variable.kind != "image")

    @property
    def image_parents(self) -> tuple[str, ...]:
        """List the names of the parents of the image."""
        return next(variable.parents for variable in self.variables if variable.kind == "image")

    @property
    def interventions(self) -> dict[str, tuple[str, ...]]:
        """List the interventions of an evaluation: the variables set together, by the first one."""
        return {names[0]: names for names in self.evaluated or [(name,) for name in self.image_parents]}

    @property
    def predicted(self) -> tuple[Variable, ...]:
        """List the attributes that an oracle predicts from the image."""
        return tuple(variable for variable in self.attributes if variable.name not in self.measured)

    @property
    def learned(self) -> tuple[Variable, ...]:
        """List the attributes whose mechanisms are fitted to data."""
        return tuple(variable for variable in self.attributes if variable.learned)

    def variable(self, name: str) -> Variable:
        """Return the attribute of a name.

        Raises:
            InputError: there is none.
        """
        for variable in self.attributes:
            if variable.name == name:
                return variable
        known = ", ".join(f"{variable.name} ({variable.domain})" for variable in self.attributes)
        raise InputError(f"unknown variable '{name}'; known: {known}")

    def scm(self, image: Mechanism[Any] | None = None, learned: LearnedAttributes | None = None) -> SCM:
        """Build the causal model.

        Args:
            image: the mechanism of the image; None leaves the image out.
            learned: the fitted mechanisms of the attributes, where there are any.

        Raises:
            InputError: an attribute's mechanism is to be fitted, and ``learned`` is missing.
        """
        mechanisms: dict[str, Mechanism[Any]] = {}
        for variable in self.attributes:
            if variable.mechanism is not None:
                mechanisms[variable.name] = variable.mechanism()
            elif learned is not None:
                mechanisms[variable.name] = learned.mechanism(variable.name)
            else:
                names = ", ".join(variable.name for variable in self.learned)
                raise InputError(
                    f"graph '{self.name}': the mechanism of {names} is learned; train it, and give its checkpoint with "
                    f"{option('attributes')}"
                )
        if image is not None:
            mechanisms["image"] = image
        parents = {variable.name: variable.parents for variable in self.variables}
        domains = {variable.name: variable.ends for variable in self.attributes if variable.real}
        return SCM(mechanisms, parents, domains, {k: v for k, v in self.limits.items() if k in mechanisms})

    def check_do(self, do: Mapping[str, float]) -> None:
        """Check the values of an intervention.

        Raises:
            InputError: a name is no attribute, or a value is outside its domain.
        """
        for name, value in do.items():
            self.variable(name).check(value)
