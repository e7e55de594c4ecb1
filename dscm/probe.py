"""What a semantic code gives away about the parents."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.image import DiffusionMechanism


@torch.no_grad()
def probe_code(mechanism: DiffusionMechanism, value: Tensor, parents: Mapping[str, Tensor]) -> dict[str, float]:
    """Fit a linear regression from the code to each parent on half of the images and score it on the other half.

    Args:
        mechanism: a semantic mechanism.
        value: images in [-1, 1], shape (N, C, H, W).
        parents: each (N,).

    Returns:
        For each parent R² (continuous), or the accuracy of the highest of the one-hot regressions (categorical).
        Chance is 0, respectively the share of the most frequent class.
    """
    pa = mechanism.scaling(parents)
    code = torch.cat([mechanism.encode(x, p) for x, p in zip(value.split(500), pa.split(500))]).double()
    code = torch.cat([code, torch.ones_like(code[:, :1])], dim=1)
    fit, score = slice(None, None, 2), slice(1, None, 2)
    result = {}
    for variable in mechanism.scaling.variables:
        target = parents[variable.name]
        wide = F.one_hot(target, variable.classes).double() if variable.classes else target.double()[:, None]
        weights = torch.linalg.lstsq(code[fit], wide[fit]).solution
        guess, truth = code[score] @ weights, wide[score]
        if variable.classes:
            result[variable.name] = (guess.argmax(dim=1) == target[score]).double().mean().item()
        else:
            result[variable.name] = 1 - ((guess - truth) ** 2).sum().item() / ((truth - truth.mean()) ** 2).sum().item()
    return result
