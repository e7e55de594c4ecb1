"""Parents as one vector, the form in which networks see them."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.causal.variables import Variable


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
        """Fit means and standard deviations of the real parents to tensors of shape (N,)."""
        for i, variable in enumerate(self.variables):
            if variable.real:
                self.mean[i], self.std[i] = data[variable.name].mean(), data[variable.name].std().clamp_min(1e-6)

    def standardise(self, name: str, value: Tensor) -> Tensor:
        """Standardise a real variable's values, (B,)."""
        i = [variable.name for variable in self.variables].index(name)
        return (value.to(self.mean.dtype) - self.mean[i]) / self.std[i]

    def restore(self, name: str, value: Tensor) -> Tensor:
        """Invert `standardise`."""
        i = [variable.name for variable in self.variables].index(name)
        return value.to(self.mean.dtype) * self.std[i] + self.mean[i]

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
