"""The content of a graph file, checked field by field."""

import difflib
import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from dscm.causal.graph import Graph
from dscm.causal.mechanisms import (
    AdditiveNoise,
    CategoricalRoot,
    GammaRoot,
    LinearGaussian,
    Mechanism,
    ScaledSigmoid,
    UniformRoot,
)
from dscm.causal.scm import topological_order
from dscm.causal.shadow import shadow_length, shadow_position
from dscm.causal.variables import Variable, as_float32
from dscm.errors import InputError

EQUATIONS: Mapping[str, Callable[..., Mechanism]] = {
    "gamma": GammaRoot,
    "interval": UniformRoot,
    "linear-gaussian": LinearGaussian,
    "scaled-sigmoid": ScaledSigmoid,
    "shadow-length": partial(AdditiveNoise, shadow_length),
    "shadow-position": partial(AdditiveNoise, shadow_position),
    "uniform": CategoricalRoot,
}
SHADOWS = ("shadow-length", "shadow-position")  # functions of two parents: the angles of a pendulum and of a light
FIELDS = {  # of a variable, by its type: required ones, optional ones
    "continuous": ((), ("parents", "range", "unit", "equation")),
    "positive": ((), ("parents", "range", "unit", "equation")),
    "bounded": (("range",), ("parents", "unit", "equation")),
    "circular": (("equation",), ("parents", "unit")),
    "binary": ((), ("parents", "equation")),
    "categorical": (("values",), ("parents", "equation")),
    "image": (("parents", "size", "channels"), ()),
}
DATA_SETS = ("folder", "morphomnist", "celeba", "celebahq", "embed", "pendulum")
OPTIONAL = ("name", "data", "measured", "interventions")  # fields of a graph besides its variables
RESERVED = {  # names that mean something else wherever a variable's name is written
    "query": "a column of counterfactuals.csv",
    "l1": "a column of counterfactuals.csv",
    "split": "the column of a table that says which images are for testing",
    "do": "a word of guidance weights",
    "others": "a word of guidance weights",
}
PUBLISHED = {"base": "what the data set calls its drawings", "index": "what the data set calls the number of an image"}
STAGES = ("counterfactual_", "measured_")  # prefixes of columns that each attribute has in counterfactuals.csv


def parse(spec: Any, path: Path, text: str = "", built_in: bool = False) -> Graph:
    """Parse the content of a graph file.

    Args:
        spec: the content.
        path: the file, for messages; its stem is the graph's name unless the content gives one.
        text: the text of the file, for line numbers in messages.
        built_in: whether its name alone identifies it.

    Raises:
        InputError: a field is missing, unknown or wrong, a parent is unknown, or there is a cycle.
    """
    return _Reader(path, text).graph(spec, built_in)


class _Reader:
    """Check one graph file, field by field.

    Args:
        path: the file.
        text: its text; empty where there is none.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def graph(self, spec: Any, built_in: bool) -> Graph:
        """Read the whole file."""
        variables = spec.get("variables") if isinstance(spec, dict) else None
        if not isinstance(variables, dict) or not variables:
            self.fail("variables", "must be an object that holds a variable by each name")
        for field in spec.keys() - {"variables", *OPTIONAL}:
            self.fail(field, f"unknown field; known: variables, {', '.join(OPTIONAL)}")
        if not isinstance(spec.get("name", ""), str):
            self.fail("name", "must be text")
        if spec.get("data", "folder") not in DATA_SETS:
            self.fail("data", f"must be one of {', '.join(DATA_SETS)}")
        self.check_names(variables, spec.get("data", "folder"))
        read = {name: self.variable(name, field) for name, field in variables.items()}
        try:
            order = topological_order({name: variable.parents for name, variable in read.items()})
        except InputError as error:
            self.fail("variables", str(error))
        images = [name for name, variable in read.items() if variable.kind == "image"]
        if images != ["image"]:
            self.fail("variables", f"there must be one variable of type image, called 'image'; there are {images}")
        for name in order:
            if "image" in read[name].parents:
                self.fail(name, "the image can have no children")
        return Graph(
            spec.get("name", self.path.stem),
            tuple(read.values()),
            variables["image"]["channels"],
            variables["image"]["size"],
            self.interventions(spec, read["image"].parents),
            tuple(self.names(spec, "measured", read["image"].parents)),
            spec.get("data", "folder"),
            spec,
            built_in,
        )

    def check_names(self, names: Collection[str], data: str) -> None:
        """Refuse names that could not be told from something else in queries, tables and files."""
        reserved = RESERVED if data == "folder" else RESERVED | PUBLISHED
        for name in names:
            if not name.isprintable() or name != name.strip() or not name or set(name) & set(".,=/@"):
                self.fail(name, "no name for a variable: choose one without . , = / @, and without space around it")
            if hasattr(nn.ModuleDict(), name):
                self.fail(name, "no name for a variable: PyTorch uses it itself; choose another")
            if name in reserved:
                self.fail(name, f"no name for a variable: it is {reserved[name]}; choose another")
            for stage in STAGES:
                if name.removeprefix(stage) != name and name.removeprefix(stage) in names:
                    other = name.removeprefix(stage)
                    self.fail(name, f"no name beside {other}, which has a column {name} in counterfactuals.csv")

    def variable(self, name: str, spec: Any) -> Variable:
        """Read one variable."""
        if not isinstance(spec, dict) or spec.get("type") not in [*FIELDS]:
            self.fail(name, f"must be an object with a type, one of {', '.join(FIELDS)}")
        kind = spec["type"]
        needed, allowed = FIELDS[kind]
        for field in needed:
            if field not in spec:
                self.fail(name, f"type {kind} needs the field '{field}'")
        for field in spec.keys() - {"type", *needed, *allowed}:
            near = difflib.get_close_matches(field, [*needed, *allowed]) or [*needed, *allowed]
            self.fail(name, f"type {kind} has no field '{field}'; try {', '.join(near)}")
        parents = spec.get("parents", [])
        if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
            self.fail(name, "parents must be a list of names")
        if len(set(parents)) < len(parents):
            self.fail(name, "parents names a variable twice")
        if not isinstance(spec.get("unit", ""), str):
            self.fail(name, "unit must be text")
        low, high, labels = self.domain(name, kind, spec)
        domain = (low, high, len(labels) or 2)
        mechanism = self.equation(name, kind, spec, tuple(parents), domain) if "equation" in spec else None
        return Variable(name, kind, tuple(parents), low, high, spec.get("unit", ""), mechanism, labels)

    def domain(self, name: str, kind: str, spec: Mapping[str, Any]) -> tuple[float, float, tuple[str, ...]]:
        """Return the lowest and the highest value, and the labels of a categorical variable."""
        if kind == "categorical":
            values = spec["values"]
            plain = isinstance(values, list) and all(isinstance(value, str | int | float) for value in values)
            labels = tuple(map(str, values)) if plain else ()
            if len(labels) < 2 or len(set(labels)) < len(labels):
                self.fail(name, "values must be a list of at least two different ones, texts or numbers")
            return 0, len(labels) - 1, labels
        if kind == "image":
            size, channels = spec["size"], spec["channels"]
            if type(size) is not int or size < 8 or type(channels) is not int or channels not in (1, 3):
                self.fail(name, "size must be a whole number of at least 8 pixels, and channels 1 or 3")
            return -1, 1, ()
        ends = {"continuous": (-math.inf, math.inf), "positive": (0, math.inf)}.get(kind, (0, 1))
        ends = spec.get("range", ends)
        if (
            not isinstance(ends, list | tuple)
            or len(ends) != 2
            or not all(isinstance(end, int | float) for end in ends)
            or (kind == "bounded" and not all(math.isfinite(as_float32(end)) for end in ends))
            or not as_float32(ends[0]) < as_float32(ends[1])
        ):
            self.fail(name, "range must be two numbers, the lower first, that differ in float32")
        low, high = ends
        if kind == "positive" and low < 0:
            self.fail(name, "the range of a positive variable must not begin below 0")
        return low, high, ()

    def equation(
        self,
        name: str,
        kind: str,
        spec: Mapping[str, Any],
        parents: tuple[str, ...],
        domain: tuple[float, float, int],
    ) -> Callable[[], Mechanism]:
        """Read a known equation: its form, by name, with its constants; the domain ends with the number of classes."""
        equation = spec["equation"]
        if not isinstance(equation, dict) or len(equation) != 1 or not equation.keys() <= EQUATIONS.keys():
            self.fail(name, f"equation must be an object with one of {', '.join(EQUATIONS)}")
        ((form, constants),) = equation.items()
        if (form == "uniform") != (kind in ("binary", "categorical")):
            self.fail(name, f"equation '{form}' does not suit type {kind}")
        shadow = form in SHADOWS
        known: dict[str, Any] = {"classes": domain[2]} if form == "uniform" else {"parents": parents} if shadow else {}
        constants = {} if form == "uniform" else constants
        try:
            inspect.signature(EQUATIONS[form]).bind(**constants, **known)
        except TypeError as error:
            self.fail(name, f"equation '{form}': {error}")
        weights = constants.get("weights", {})
        if shadow and len(parents) != 2:
            self.fail(name, f"equation '{form}' needs two parents: the angle of a pendulum and that of a light")
        if not shadow and (not isinstance(weights, dict) or set(weights) != set(parents)):
            self.fail(name, f"equation '{form}' must weigh exactly the parents: {', '.join(parents) or 'none'}")
        numbers = {**weights, **{key: value for key, value in constants.items() if key != "weights"}}
        for constant, value in numbers.items():
            if not isinstance(value, int | float) or not math.isfinite(as_float32(value)):
                self.fail(name, f"equation '{form}': {constant} must be a finite number")
        if not isinstance(constants.get("shape", 1), int):
            self.fail(name, f"equation '{form}': shape must be a whole number")
        for constant in constants.keys() & {"scale", "rate", "shape"}:
            if constants[constant] < 0 or (constants[constant] == 0 and not shadow):
                self.fail(name, f"equation '{form}': {constant} must be {'at least' if shadow else 'more than'} 0")
        if form == "interval" and not constants["low"] < constants["high"]:
            self.fail(name, f"equation '{form}': low must be less than high")
        if form == "scaled-sigmoid" and not domain[0] <= constants["low"] < constants["high"] <= domain[1]:
            self.fail(name, f"equation '{form}': low and high must lie in the range, the lower first")
        return partial(EQUATIONS[form], **constants, **known)

    def interventions(self, spec: Mapping[str, Any], parents: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Read which parents of the image an evaluation intervenes on, and which together."""
        groups = self.names(spec, "interventions", parents, deep=True)
        firsts = [names[0] for names in groups if names]
        if len(firsts) < len(groups):
            self.fail("interventions", "a list of names is empty")
        if len(set(firsts)) < len(firsts) or any(len(set(names)) < len(names) for names in groups):
            self.fail("interventions", "a name is twice in a list, or two lists begin with the same one")
        return tuple(map(tuple, groups))

    def names(self, spec: Mapping[str, Any], field: str, known: tuple[str, ...], deep: bool = False) -> list[Any]:
        """Read a list of parents of the image, or a list of such lists."""
        names = spec.get(field, [])
        if not isinstance(names, list) or (deep and not all(isinstance(entry, list) for entry in names)):
            self.fail(field, f"must be a list of {'lists of ' * deep}names")
        for entry in names:
            for name in entry if deep else [entry]:
                if name not in known:
                    self.fail(field, f"{name!r} is not a parent of the image; those are {', '.join(known)}")
        return names

    def fail(self, field: str, message: str) -> NoReturn:
        """Raise an `InputError` that names the file, the line and the field."""
        match = re.search(rf'"{re.escape(field)}"\s*:', self.text)
        line = f", line {self.text.count(chr(10), 0, match.start()) + 1}" if match else ""
        shown = field if field.isprintable() else repr(field)
        raise InputError(f"{self.path}{line}, {shown}: {message}")
