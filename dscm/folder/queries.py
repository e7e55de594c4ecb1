"""Queries as text: the values that an intervention sets, constant or different for each image.

NAME=3.5  NAME=label     the same value for every image
NAME=+1.5  NAME=*0.8     the observed value + 1.5, or × 0.8
NAME=flip                the other value of a binary variable
NAME=soft:+1.5           such a change (+, * or flip), but of the value that follows from the parents under the query
NAME=@FILE.csv:COLUMN    each image's own value, from its row of FILE
NAME=@sub/IMAGE.png      the observed value of another image of the folder
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.scm import Soft
from dscm.causal.variables import Variable
from dscm.data.attributes import read_attributes
from dscm.data.images import SUFFIXES
from dscm.data.names import give_examples
from dscm.data.table import without_fraction
from dscm.errors import InputError, option

Change = Callable[[Tensor, Sequence[str]], Tensor]  # observed values (B,), names of the images → new values (B,)
SOFT = "soft:"  # before a change of what the parents make of a variable


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
        text: the query in a normal form.
        variables: those that are set, by name.
        changes: by variable, the function that computes its values from what was observed.
        constants: by variable, the values that are the same for every image.
        sources: by variable, the values that were read from elsewhere, by the name of the image that gets them.
        soft: by variable, the function of the value that its mechanism gives.
    """

    text: str
    variables: Mapping[str, Variable]
    changes: Mapping[str, Change]
    constants: Mapping[str, float]
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    soft: Mapping[str, Soft] = field(default_factory=dict)

    def resolve(
        self, obs: Mapping[str, Tensor], images: Sequence[str]
    ) -> tuple[dict[str, Tensor | Soft], dict[str, str]]:
        """Return the values of each variable that is set, (B,), and the images that cannot be answered.

        Args:
            obs: the observed values, each (B,).
            images: the names of the images, B.

        Returns:
            The values, in which an image that cannot be answered keeps what was observed, and the soft functions; and
            by the name of such an image the reason: a value is outside its variable's domain. What a soft function
            gives is known, and to be checked, after the prediction.
        """
        do: dict[str, Tensor | Soft] = dict(self.soft)
        refused: dict[str, str] = {}
        for name, change in self.changes.items():
            variable, values = self.variables[name], change(obs[name], images)
            allowed = variable.inside(values)
            do[name] = torch.where(allowed, values, obs[name])
            for i in (~allowed).nonzero().flatten().tolist():
                would = f"{name} would be {values[i].item():g}"
                refused.setdefault(images[i], f"{would}; allowed: {variable.domain}")
        return do, refused

    @property
    def unconditional(self) -> dict[str, float | Tensor | Soft]:
        """Return the intervention that needs no observation: on all variables, if none depends on one."""
        return {**self.constants, **self.soft}

    def read_from_elsewhere(self, image: str) -> list[float]:
        """List the values that an image gets from other files."""
        return [values[image] for values in self.sources.values()]


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
    variables: dict[str, Variable] = {}
    changes: dict[str, Change] = {}
    constants: dict[str, float] = {}
    sources: dict[str, Mapping[str, float]] = {}
    soft: dict[str, Soft] = {}
    parts = []
    for variable, value in _split(text, graph, images):
        name = variable.name
        if name in variables:
            raise InputError(f"{option('do')} {text}: {name} is set twice")
        variables[name] = variable
        if value not in variable.labels and value.startswith(SOFT):
            soft[name] = _parse_change(variable, value)
        elif value in variable.labels or value[0] not in "+*@" and value != "flip":
            constants[name], value = _parse_constant(variable, value)
            changes[name] = partial(_fill, value=constants[name])
        elif value[0] == "@":
            sources[name] = _parse_source(variable, value, images)
            changes[name] = partial(_look_up, values=sources[name])
        else:
            changes[name] = partial(_apply, change=_parse_change(variable, value))
        parts.append(f"{name}={value}")
    return Query(",".join(parts), variables, changes, constants, sources, soft)


def parse_queries(texts: Sequence[str], graph: Graph, images: Images | None = None) -> list[Query]:
    """Read several queries, as `parse_query`.

    Raises:
        InputError: as `parse_query`, or two of them are the same.
    """
    queries: dict[str, Query] = {}
    for text in texts:
        query = parse_query(text, graph, images)
        if query.text in queries:
            raise InputError(f"{option('do')} {text}: the same query is there twice")
        queries[query.text] = query
    return [*queries.values()]


def _split(text: str, graph: Graph, images: Images | None) -> Iterator[tuple[Variable, str]]:
    """Yield the variables of a query with their values, which may hold commas where they are known."""
    rest: str | None = text
    while rest is not None:
        name, equals, value = (piece.strip() for piece in rest.partition("="))
        if not name or "," in name or not equals or not value or value[0] == ",":
            part = rest.partition(",")[0]
            raise InputError(f"{option('do')} {text}: '{part}' is not of the form name=value")
        variable = graph.variable(name)
        ends = [match.start() for match in re.finditer(",|$", value)]
        tried = ends if value[0] == "@" else ends[::-1]  # a file's name ends before the next comma, if it can
        known = (end for end in tried if _is_known(variable, value[:end].rstrip(), images))
        end = next(known, ends[0])
        yield variable, value[:end].rstrip()
        rest = value[end + 1 :] if end < len(value) else None


def _is_known(variable: Variable, value: str, images: Images | None) -> bool:
    """Tell whether a value is the whole name of a class, of an image, or of a file that exists, with a column."""
    if value[:1] != "@" or value in variable.labels:
        return value in variable.labels
    is_image = images is not None and value[1:] in images.names
    return is_image or os.path.isfile(value[1:].rpartition(":")[0])


def _look_up(observed: Tensor, images: Sequence[str], values: Mapping[str, float]) -> Tensor:
    """Set each image's own value."""
    return torch.tensor([values[image] for image in images]).to(observed)


def _fill(observed: Tensor, _: Sequence[str], value: float) -> Tensor:
    """Set the same value for every image."""
    return torch.full_like(observed, value)


def _apply(observed: Tensor, _: Sequence[str], change: Soft) -> Tensor:
    """Change the observed values."""
    return torch.as_tensor(change(observed))


def _parse_constant(variable: Variable, text: str) -> tuple[float, str]:
    """Read a value that is the same for every image, and its normal form."""
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


def _parse_change(variable: Variable, text: str) -> Soft:
    """Read a change of values: of the observed ones, or, after ``soft:``, of those that the mechanism gives."""
    part, word = f"{option('do')} {variable.name}={text}", text.removeprefix(SOFT)
    if word == "flip":
        if variable.kind != "binary":
            raise InputError(f"{part}: only a binary variable flips")
        return lambda value: 1 - value
    if word[:1] not in ("+", "*"):
        raise InputError(f"{part}: a soft change is {SOFT}+NUMBER, {SOFT}*NUMBER or {SOFT}flip")
    if not variable.real and (variable.kind, word[0]) != ("circular", "+"):
        words = "to add to or to multiply" if variable.discrete else "to multiply"
        raise InputError(f"{part}: {variable.name} is not a number {words}")
    number = _parse_number(word[1:])
    if number is None or not math.isfinite(number):
        raise InputError(f"{part}: '{word[1:]}' is not a finite number")
    return (lambda value: value + number) if word[0] == "+" else (lambda value: value * number)


def _parse_source(variable: Variable, text: str, images: Images | None) -> Mapping[str, float]:
    """Read the value of each image from another image, or from a column of a CSV file."""
    part, source = f"{option('do')} {variable.name}={text}", text[1:]
    if images is None:
        raise InputError(f"{part}: there is no folder of images to take values from")
    if source in images.names or source.lower().endswith(tuple(SUFFIXES)):
        if source not in images.names:
            raise InputError(f"{part}: {source} is not an image of {images.folder}")
        return dict.fromkeys(images.names, images.look_up(source, variable.name))
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
    return by_name


def _parse_number(text: str) -> float | None:
    """Read a number; None if the text is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
