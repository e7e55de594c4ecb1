"""Values of attributes as users write them: numbers in raw units or labels of classes, one or a batch."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dscm.causal.variables import Variable
from dscm.errors import InputError

Values = float | str | Sequence[float | str] | np.ndarray | Tensor


def read_values(variable: Variable, values: Values, n: int | None = None) -> Tensor:
    """Read the values of an attribute.

    Args:
        variable: the attribute.
        values: one for the whole batch, or one for each element.
        n: size of the batch; None takes any.

    Returns:
        float32, or int64 for classes; () or (N,).

    Raises:
        InputError: a value is no number or label, not finite or outside the domain, or there is another number of them.
    """
    single = isinstance(values, str) or np.ndim(values) == 0
    listed = [values] if single else list(values)  # type: ignore[arg-type]
    numbers = [_read_value(variable, value) for value in listed]
    if not single and n is not None and len(numbers) != n:
        raise InputError(f"{variable.name}: {len(numbers)} values for a batch of {n}")
    result = torch.tensor(numbers, dtype=torch.int64 if variable.discrete else torch.float32)
    return result[0] if single else result


def _read_value(variable: Variable, value: object) -> float:
    """Read one number or label."""
    if isinstance(value, str) and value in variable.labels:
        return variable.labels.index(value)
    if isinstance(value, str) and value[:1] in ("+", "*", "@"):
        raise InputError(f"{variable.name}={value}: a change needs an observation")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not variable.contains(number):
        raise InputError(f"{variable.name}={value}: must be {variable.allowed}")
    return number


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
