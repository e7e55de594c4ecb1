"""How unusual a number is among those of validation images."""

import torch
from torch import Tensor

ALARM = 0.01  # share of validation images below which a number is called unusual
ENOUGH = round(1 / ALARM)  # numbers of a reference that let one be called so


def how_usual(reference: Tensor, values: Tensor) -> Tensor:
    """Return the share of a reference that is at least as large, ``(1 + #{r ≥ x}) / (n + 1)``.

    Of values like those of the reference, which are exchangeable with it, a share below α has at most the probability
    α, whatever their distribution and however few they are. Of fewer than `ENOUGH` none lies below `ALARM`.

    Args:
        reference: sorted, (n,).
        values: (N,); one that is not a number is as large as can be.

    Returns:
        float32 (N,), from 1 / (n + 1), nothing is as large, to 1.

    Source: Vovk, Gammerman and Shafer 2005, Algorithmic learning in a random world; Bates et al. 2023, Testing for
    outliers with conformal p-values.

    >>> how_usual(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 9.0]))
    tensor([1.0000, 0.7500, 0.2500])
    """
    x = values.detach().float().nan_to_num(nan=torch.inf)
    smaller = torch.searchsorted(reference.to(x.device), x)
    return (1 + len(reference) - smaller).float() / (len(reference) + 1)
