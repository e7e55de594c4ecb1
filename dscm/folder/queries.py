"""Queries as text: the values that an intervention sets, constant or different for each image.

NAME=3.5  NAME=label     the same value for every image
NAME=+1.5  NAME=*0.8     the observed value + 1.5, or × 0.8
NAME=flip                the other value of a binary variable
NAME=@FILE.csv:COLUMN    each image's own value, from its row of FILE
NAME=@sub/IMAGE.png      the observed value of another image of the folder
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.variables import Variable
from dscm.data.attributes import read_attributes
from dscm.data.images import SUFFIXES
from dscm.data.names import give_examples
from dscm.data.table import without_fraction
from dscm.errors import InputError, option

Change = Callable[[Tensor, Sequence[str]], Tensor]  # observed values (B,), names of the images → new values (B,)


class Images(Protocol):
    """The images of a folder, from which a query may take values."""

    @property
    def folder(self) -> Path:
        """Return the folder."""

    @property
    def names(self) -> Sequence[str]:
        """Return the paths of the images relative to the folder, with ``/`` between their parts."""

    @property
    def skip_missing(self) -> bool:
        """Tell whether images may have been left out, so that tables may have rows of others."""

    def look_up(self, name: str, attribute: str) -> float:
        """Return the observed value of an attribute of one image."""


@dataclass(frozen=True)
class Query:
    """One intervention.

    Args:
        text: the query in a normal form that can be part of a file name.
        variables: those that are set, by name.
        changes: by variable, the function that computes its values.
        constants: by variable, the values that are the same for every image.
    """

    text: str
    variables: Mapping[str, Variable]
    changes: Mapping[str, Change]
    constants: Mapping[str, float]

    def resolve(self, obs: Mapping[str, Tensor], images: Sequence[str]) -> dict[str, Tensor]:
        """Return the values of each variable that is set, (B,).

        Args:
            obs: the observed values, each (B,).
            images: the names of the images, B.

        Raises:
            InputError: a value is outside its variable's domain.
        """
        do = {}
        for name, change in self.changes.items():
            do[name] = change(obs[name], images)
            for image, value in zip(images, do[name].tolist()):
                if not self.variables[name].contains(value):
                    query, domain = f"{option('do')} {self.text}", self.variables[name].domain
                    raise InputError(f"{query}: {name} of {image} would be {value:g}; allowed: {domain}")
        return do


def parse_query(text: str, graph: Graph, images: Images | None = None) -> Query:
    """Read ``name=value[,name=value…]``.

    Args:
        text: the query.
        graph: the causal graph.
        images: from which ``@`` takes values; None where there is no folder.

    Raises:
        InputError: the text is no such list, a variable is unknown or named twice, a value is outside its domain, or
            the source of a value is missing.
    """
    changes: dict[str, Change] = {}
    constants, parts = {}, []
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name or not equals or not value:
            raise InputError(f"{option('do')} {text}: '{part}' is not of the form name=value")
        if name in changes:
            raise InputError(f"{option('do')} {text}: {name} is set twice")
        variable = graph.variable(name)
        constant = _parse_constant(variable, value)
        if constant is None:
            changes[name] = _parse_change(variable, value, images)
        else:
            constants[name], value = constant
            changes[name] = partial(_fill, value=constants[name])
        parts.append(f"{name}={value}")
    variables = {name: graph.variable(name) for name in changes}
    return Query(",".join(parts).replace("/", "_"), variables, changes, constants)


def _fill(observed: Tensor, _: Sequence[str], value: float) -> Tensor:
    """Set the same value for every image."""
    return torch.full_like(observed, value)


def _parse_constant(variable: Variable, text: str) -> tuple[float, str] | None:
    """Read a value that is the same for every image, and its normal form; None if it depends on the image."""
    if text == "flip" or text[0] in "+*@":
        return None
    value: float | None
    if variable.labels:
        label = text if text in variable.labels else without_fraction(text)
        value = variable.labels.index(label) if label in variable.labels else None
    else:
        value = _parse_number(text)
    if value is None:
        raise InputError(f"{option('do')} {variable.name}={text}: {variable.name} must be {variable.allowed}")
    variable.check(value)
    return value, variable.labels[int(value)] if variable.labels else f"{float(value)!r}".removesuffix(".0")


def _parse_change(variable: Variable, text: str, images: Images | None) -> Change:
    """Read a value that depends on the image."""
    part = f"{option('do')} {variable.name}={text}"
    if text[0] == "@":
        return _parse_source(variable, text, images)
    if text == "flip":
        if variable.kind != "binary":
            raise InputError(f"{part}: only a binary variable flips")
        return lambda observed, _: 1 - observed
    if not variable.real:
        raise InputError(f"{part}: {variable.name} is not a number to add to or to multiply")
    number = _parse_number(text[1:])
    if number is None:
        raise InputError(f"{part}: '{text[1:]}' is not a number")
    if text[0] == "+":
        return lambda observed, _: observed + number
    return lambda observed, _: observed * number


def _parse_source(variable: Variable, text: str, images: Images | None) -> Change:
    """Read a value that comes from another image, or from a column of a CSV file."""
    part, source = f"{option('do')} {variable.name}={text}", text[1:]
    if images is None:
        raise InputError(f"{part}: there is no folder of images to take values from")
    if source.lower().endswith(SUFFIXES):
        if source not in images.names:
            raise InputError(f"{part}: {source} is not an image of {images.folder}")
        return partial(_fill, value=images.look_up(source, variable.name))
    path, colon, column = source.rpartition(":")
    if not colon:
        raise InputError(f"{part}: must be @FILE.csv:COLUMN, or @IMAGE, an image of {images.folder}")
    table = read_attributes(
        Path(path), images.names, {column: variable}, images.folder, skip_missing=images.skip_missing
    )
    by_name = dict(zip(table.images, table.values[column].tolist()))
    missing = [name for name in images.names if name not in by_name]
    if missing:
        raise InputError(f"{part}: no value for {give_examples(missing)}")
    return lambda observed, names: torch.tensor([by_name[name] for name in names]).to(observed)


def _parse_number(text: str) -> float | None:
    """Read a number; None if the text is none."""
    try:
        return float(text)
    except ValueError:
        return None
