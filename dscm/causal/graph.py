"""A causal graph, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dscm.errors import InputError
from dscm.causal.learned import LearnedAttributes
from dscm.causal.mechanisms import Mechanism
from dscm.causal.scm import SCM
from dscm.causal.variables import Variable


@dataclass(frozen=True)
class Graph:
    """Name a set of variables, one of which is the image.

    Arguments: `name`; `variables`; `image_channels` (1 is grey, 3 is colour); `image_size`, pixels a side; `asked`,
    what is intervened on when the model is measured, by default every parent of the image by itself; variables named
    together are set together, if all are binary to one value; `measured`, the attributes that morphometry reads
    off the image of a digit (an oracle predicts the others); `data_set`, whose images these are; `spec`, the
    file's content; `built_in`, whether its name alone finds it.
    """

    name: str
    variables: tuple[Variable, ...]
    image_channels: int = 1
    image_size: int = 28
    asked: tuple[tuple[str, ...], ...] = ()
    measured: tuple[str, ...] = ()
    data_set: str = "morphomnist"
    spec: Mapping[str, Any] = field(default_factory=dict)
    built_in: bool = False

    @property
    def key(self) -> str | dict[str, Any]:
        """Return what `get_graph` makes this graph from: its name, or all of it."""
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
        """List what is intervened on when the model is measured: the variables set together, by the first one."""
        return {names[0]: names for names in self.asked or [(name,) for name in self.image_parents]}

    @property
    def predicted(self) -> tuple[Variable, ...]:
        """List the attributes that an oracle predicts from the image."""
        return tuple(variable for variable in self.attributes if variable.name not in self.measured)

    @property
    def learned(self) -> tuple[Variable, ...]:
        """List the attributes whose mechanisms are fitted to data."""
        return tuple(variable for variable in self.attributes if variable.learned)

    def scm(self, image: Mechanism | None = None, learned: LearnedAttributes | None = None) -> SCM:
        """Build the causal model.

        Arguments: `image`, the mechanism of the image (without it, the attributes alone); `learned`, the fitted
        mechanisms of the attributes, where there are any.

        Raises `InputError` if an attribute's mechanism is to be learned and is not given.
        """
        if self.learned and learned is None:
            names = ", ".join(variable.name for variable in self.learned)
            raise InputError(
                f"graph '{self.name}': the mechanism of {names} is learned; fit it and give its checkpoint"
            )
        mechanisms = {
            variable.name: learned.mechanisms[variable.name] if variable.learned else variable.mechanism()
            for variable in self.attributes
        }
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
