"""Values of attributes as users write them: numbers in raw units or labels of classes, one or a batch."""

from collections.abc import Sequence

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
    except (TypeError, ValueError):
        number = float("nan")
    if variable.kind == "circular" and abs(number) < float("inf"):
        return number
    if not variable.contains(number):
        raise InputError(f"{variable.name}={value}: must be {variable.allowed}")
    return number
