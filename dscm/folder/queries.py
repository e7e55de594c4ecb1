"""What ``--do`` asks: a value for some variables, given outright, relative to what was observed, or from elsewhere.

NAME=3.5  NAME=label     the same value for every image
NAME=+1.5  NAME=*0.8     what was observed, more 1.5 or times 0.8
NAME=flip                the other value of a binary variable
NAME=@FILE.csv:COLUMN    each image's own value, from the row of FILE that names it
NAME=@sub/IMAGE.png      the value that another image of the folder has
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dscm.data.images import SUFFIXES, read_attributes
from dscm.data.table import without_fraction
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.causal.variables import Variable

Change = Callable[[Tensor, Sequence[str]], Tensor]  # observed values (B,) and the names of the images → values (B,)
LookUp = Callable[[str, str], float]  # the name of an image, and of a variable → its observed value


@dataclass(frozen=True)
class Query:
    """One intervention: the text that asked for it, and how each variable of it is set.

    Args:
        text: as it was asked, fit for the name of a file.
        variables: what is set, by name.
        changes: how, by name.
        constants: the values that are given outright, by name.
    """

    text: str
    variables: Mapping[str, Variable]
    changes: Mapping[str, Change]
    constants: Mapping[str, float]

    def resolve(self, obs: Mapping[str, Tensor], images: Sequence[str]) -> dict[str, Tensor]:
        """Return the value of each variable for each image, (B,).

        Args:
            obs: what was observed, each (B,).
            images: the names of the images.

        Raises:
            InputError: a value is outside its variable's domain, or no row gives it.
        """
        do = {}
        for name, change in self.changes.items():
            do[name] = change(obs[name], images)
            for image, value in zip(images, do[name].tolist()):
                if not self.variables[name].contains(value):
                    domain = self.variables[name].domain
                    raise InputError(f"--do {self.text}: {name} of {image} would be {value:g}; allowed: {domain}")
        return do


def parse_query(text: str, graph: Graph, folder: Path, images: Sequence[str], look_up: LookUp) -> Query:
    """Read ``name=value[,name=value…]``.

    Args:
        text: the query.
        graph: the causal graph.
        folder: of the images.
        images: their names.
        look_up: reads an attribute of one of them.

    Raises:
        InputError: it is no such list, a variable is named twice or unknown, a value is outside its domain, or what a
            value is taken from is missing.
    """
    attributes = {variable.name: variable for variable in graph.attributes}
    changes: dict[str, Change] = {}
    constants, words = {}, []
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name or not equals or not value:
            raise InputError(f"--do {text}: '{part}' is not of the form name=value")
        if name in changes:
            raise InputError(f"--do {text}: {name} is set twice")
        if name not in attributes:
            known = ", ".join(f"{variable.name} ({variable.domain})" for variable in graph.attributes)
            raise InputError(f"unknown variable '{name}' in --do; known: {known}")
        constant = _read_constant(attributes[name], value)
        if constant is None:
            changes[name] = _read_change(attributes[name], value, folder, images, look_up)
            words.append(f"{name}={value}")
        else:
            constants[name], word = constant
            changes[name] = partial(_fill, value=constants[name])
            words.append(f"{name}={word}")
    text = ",".join(words).replace("/", "_")
    return Query(text, {name: attributes[name] for name in changes}, changes, constants)


def _fill(observed: Tensor, _: Sequence[str], value: float) -> Tensor:
    """Give every image the same value."""
    return torch.full_like(observed, value)


def _read_constant(variable: Variable, text: str) -> tuple[float, str] | None:
    """Read a value that is given outright, and how a name of a file shows it; None where it is not."""
    if text == "flip" or text[0] in "+*@":
        return None
    if variable.labels:
        label = text if text in variable.labels else without_fraction(text)
        value = variable.labels.index(label) if label in variable.labels else None
    else:
        value = _read_number(text)
    if value is None:
        raise InputError(f"--do {variable.name}={text}: {variable.name} must be {variable.allowed}")
    variable.check(value)
    return value, variable.labels[int(value)] if variable.labels else f"{float(value)!r}".removesuffix(".0")


def _read_change(variable: Variable, text: str, folder: Path, images: Sequence[str], look_up: LookUp) -> Change:
    """Read a value that depends on the image."""
    if text[0] == "@":
        return _take_from(variable, text, folder, images, look_up)
    if text == "flip":
        if variable.kind != "binary":
            raise InputError(f"--do {variable.name}=flip: only a binary variable flips")
        return lambda observed, _: 1 - observed
    if not variable.real:
        raise InputError(f"--do {variable.name}={text}: {variable.name} is not a number to add to or to multiply")
    number = _read_number(text[1:])
    if number is None:
        raise InputError(f"--do {variable.name}={text}: '{text[1:]}' is not a number")
    if text[0] == "+":
        return lambda observed, _: observed + number
    return lambda observed, _: observed * number


def _take_from(variable: Variable, text: str, folder: Path, images: Sequence[str], look_up: LookUp) -> Change:
    """Read a value that is taken from another image, or from a column of a CSV file."""
    source = text[1:]
    if source.lower().endswith(SUFFIXES):
        if source not in images:
            raise InputError(f"--do {variable.name}={text}: {source} is not an image of {folder}")
        value = look_up(source, variable.name)
        return partial(_fill, value=value)
    path, colon, column = source.rpartition(":")
    if not colon:
        raise InputError(f"--do {variable.name}={text}: must be @FILE.csv:COLUMN, or @IMAGE, an image of {folder}")
    labels = {column: variable.labels} if variable.kind == "categorical" else {}
    whole = [column] if variable.kind == "binary" else []
    values = dict(zip(images, read_attributes(Path(path), images, [column], whole, labels)[column].tolist()))
    return lambda observed, names: torch.tensor([values[name] for name in names]).to(observed)


def _read_number(text: str) -> float | None:
    """Read a number; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None
