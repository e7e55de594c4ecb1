"""Values of attributes as users write them: numbers in raw units or labels of classes, one or a batch."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.scm import Soft
from dscm.causal.variables import Variable
from dscm.errors import InputError

Values = float | str | Sequence[float | str] | np.ndarray | Tensor
Do = Mapping[str, Values | Soft]  # an intervention by name, as users write it


def read_values(variable: Variable, values: Values, n: int | None = None) -> Tensor:
    """Read the values of an attribute.

    Args:
        variable: the attribute.
        values: one for the whole batch, or one for each element.
        n: size of the batch; None takes any.

    Returns:
        float32, or int64 for classes; () or (N,).

    Raises:
        InputError: a value is no number or label, not finite or outside the domain, or there is another number of them;
            or a number is a label, and the number of another class.
    """
    single = isinstance(values, str) or np.ndim(values) == 0
    numbers = _to_numbers(variable, values, single)
    if numbers.dim() > 1:
        raise InputError(f"{variable.name}: values of shape {tuple(numbers.shape)}: must be one, or one for each image")
    for i in (~variable.inside(numbers)).flatten().nonzero().flatten().tolist():
        value = values if single else [*values][i]  # type: ignore[misc]
        shown = value.item() if isinstance(value, Tensor | np.generic) else value
        raise InputError(
            f"{variable.name}={shown}: must be {variable.allowed}" + ("" if single else f" (image {i:05})")
        )
    if not single and n is not None and len(numbers) != n:
        raise InputError(f"{variable.name}: {len(numbers)} values for a batch of {n}")
    return numbers.to(torch.int64 if variable.discrete else torch.float32, copy=True)


def _to_numbers(variable: Variable, values: Values, single: bool) -> Tensor:
    """Turn values, a single one or several, into numbers of any dtype."""
    if isinstance(values, Tensor) and not values.is_complex():
        return values.detach()
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return torch.from_numpy(values.astype(np.float64))
    if single:
        return torch.tensor(_read_value(variable, values), dtype=torch.float64)
    return torch.tensor([_read_value(variable, value) for value in values], dtype=torch.float64)  # type: ignore[union-attr]


def _read_value(variable: Variable, value: object) -> float:
    """Read one number or label; NaN where it is neither."""
    text = str(value).removesuffix(".0")
    if isinstance(value, str) and value in variable.labels:
        return variable.labels.index(value)
    if isinstance(value, str) and value[:1] in ("+", "*", "@"):
        raise InputError(f"{variable.name}={value}: a change needs an observation")
    if isinstance(value, int | float) and text in variable.labels and variable.labels.index(text) != value:
        choice = f"label '{text}' or class number {text}? Give labels as text, and numbers of classes as a tensor"
        raise InputError(f"{variable.name}={value}: {choice}")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last of a complex tensor
        return math.nan


def soften(variable: Variable, change: Soft) -> Soft:
    """Check the results of a soft intervention by a user.

    Args:
        variable: the variable.
        change: the function of the values that its mechanism gives, (B,), in raw units or as the numbers of classes.

    Returns:
        The same function; it raises InputError where a result is no value of the variable, or not one, or B of them.
    """

    def checked(before: Tensor) -> Tensor:
        after = torch.as_tensor(change(before.clone()), device=before.device).detach()
        if after.shape not in ((), before.shape):
            raise InputError(f"{variable.name}: a soft intervention made {tuple(after.shape)} of {tuple(before.shape)}")
        after = after.expand_as(before)
        for i in (~variable.inside(after)).nonzero().flatten().tolist()[:1]:
            words = f"a soft intervention made {after[i].item():g} of {before[i].item():g}"
            raise InputError(f"{variable.name}: {words}; must be {variable.allowed}")
        return after

    return checked


def read_observation(graph: Graph, obs: Mapping[str, Values], n: int) -> dict[str, Tensor]:
    """Read the attributes of an observation of ``n`` images.

    Args:
        graph: the causal graph.
        obs: values by name, as `read_values` takes them.
        n: size of the batch.

    Returns:
        Each attribute, (N,).

    Raises:
        InputError: an attribute is unknown, or as `read_values`.
    """
    return {name: read_values(graph.variable(name), value, n).expand(n) for name, value in obs.items()}


def find_outside(variables: Iterable[Variable], values: Mapping[str, Tensor], verb: str) -> dict[int, str]:
    """Find the elements of a batch that have a value which is not finite or outside its domain.

    Args:
        variables: those to look at, among those that ``values`` holds.
        values: by name, each (B,).
        verb: how the values arose, as in ``measured as``.

    Returns:
        By the number of the element, the first reason, as in ``thickness measured as 15.7 px; allowed: 0.5 to 10 px``.
    """
    faults: dict[int, str] = {}
    for variable in variables:
        if variable.name in values:
            column = values[variable.name]
            for i in (~variable.inside(column)).nonzero().flatten().tolist():
                number = f"{column[i].item():.4g} {variable.unit}".rstrip()
                faults.setdefault(i, f"{variable.name} {verb} {number}; allowed: {variable.allowed}")
    return faults


def find_failures(variables: Iterable[Variable], values: Mapping[str, Tensor]) -> dict[int, str]:
    """Find the elements of a batch whose answer is none: a value outside its domain, or an image that is not finite.

    Args:
        variables: the attributes.
        values: every variable under an intervention, each (B, …), as `SCM.predict` returns them.

    Returns:
        As `find_outside`.
    """
    lost = (~values["image"].isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
    return find_outside(variables, values, "would be") | dict.fromkeys(lost, "the image would not be finite")


def refuse(faults: Mapping[int, str], names: Sequence[str] = ()) -> None:
    """Refuse a batch in which there are faults.

    Args:
        faults: by the number of the image, the reason.
        names: the names of the images; numbers name them where there are none.

    Raises:
        InputError: there is a fault; the first is named.
    """
    for i, reason in faults.items():
        more = f" ({len(faults)} such images)" if len(faults) > 1 else ""
        raise InputError(f"image {names[i] if names else f'{i:05}'}: {reason}{more}")
