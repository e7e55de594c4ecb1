"""Parents as one vector, the form in which networks see them."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.causal.variables import Variable
from dscm.errors import InputError


class ParentScaling(nn.Module):
    """Encode parents as one vector: standardised, one-hot, −1 or 1, or as a point on the circle.

    The means and standard deviations are buffers, so a checkpoint carries them.

    Args:
        variables: the parents, in order.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, variables: Sequence[Variable]) -> None:
        super().__init__()
        self.variables = tuple(variables)
        self.register_buffer("mean", torch.zeros(len(variables)))
        self.register_buffer("std", torch.ones(len(variables)))
        self.widths = {v.name: v.classes or (2 if v.kind == "circular" else 1) for v in variables}  # entries of each
        self.dim = sum(self.widths.values())

    def fit(self, data: Mapping[str, Tensor]) -> None:
        """Fit means and standard deviations of the real parents to tensors of shape (N,).

        Raises:
            InputError: as `find_spread`.
        """
        for i, variable in enumerate(self.variables):
            if variable.real:
                self.mean[i], self.std[i] = find_spread(variable.name, data[variable.name])

    def spread(self, name: str) -> Tensor:
        """Return the standard deviation of a real variable in the training data, ()."""
        return self.std[self._index(name)]

    def standardise(self, name: str, value: Tensor) -> Tensor:
        """Standardise a real variable's values, (B,)."""
        return (value.to(self.mean.dtype) - self.mean[self._index(name)]) / self.spread(name)

    def restore(self, name: str, value: Tensor) -> Tensor:
        """Invert `standardise`."""
        return value.to(self.mean.dtype) * self.spread(name) + self.mean[self._index(name)]

    def _index(self, name: str) -> int:
        """Find a variable."""
        return [variable.name for variable in self.variables].index(name)

    def forward(self, parents: Mapping[str, Tensor]) -> Tensor:
        """Encode parents in raw units, each (B,), as float tensors of shape (B, dim)."""
        columns = []
        for variable in self.variables:
            value = parents[variable.name]
            if variable.kind == "categorical":
                columns.append(F.one_hot(value.long(), variable.classes).to(self.mean.dtype))
            elif variable.kind == "binary":
                columns.append(2 * value.to(self.mean.dtype)[:, None] - 1)
            elif variable.kind == "circular":
                angle = 2 * math.pi * value.to(self.mean.dtype)
                columns.append(torch.stack([angle.cos(), angle.sin()], dim=1))
            else:
                columns.append(self.standardise(variable.name, value)[:, None])
        return torch.cat(columns, dim=1)


def find_spread(name: str, values: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of the values of a real variable in training images, (N,).

    Raises:
        InputError: they are all the same, so that nothing can be learned of the variable, or their spread is beyond the
            range of float32.
    """
    if len(values) == 1 or values.min() == values.max():
        value = f"the same in all training images, {values[0].item():g} ({len(values)} images)"
        raise InputError(f"{name}: {value}; nothing can be learned of it, so leave it out of the graph")
    mean, std = values.double().mean().item(), values.double().std().item()
    if not torch.finfo(torch.float32).tiny <= std <= torch.finfo(torch.float32).max:
        raise InputError(f"{name}: standard deviation of {std:g} in the training images; choose another unit")
    return mean, std
