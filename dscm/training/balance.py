"""Draw images with rare attributes more often, which changes p(pa) but not p(x | pa)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dscm.errors import InputError, option

SHARE = 0.3  # of the images drawn that have the rare value of a balanced attribute, unless `MOST` is too little for it
MOST = 10.0  # times as often as others an image with a rare value is drawn at most


def find_weights(data: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Weigh images so that the rare values of binary attributes are drawn more often.

    ``w = max over the attributes of r_a`` where an image has the rare value of a, else 1. With the share p of that
    value, ``r_a = (s/(1 − s))·(1 − p)/p`` within [1, `MOST`] would by itself bring it to ``s =`` `SHARE`; several
    attributes share the batch, and each gets somewhat less. The bound keeps few images from being learned by heart.

    Correction: none is needed for the mechanism of the image if the attributes are among its parents. Weights w(pa)
    make ``p'(x, pa) ∝ w(pa)·p(pa)·p(x | pa)``, of which p'(x | pa) = p(x | pa), and likewise p(z | pa) of a code. What
    does not condition on them follows the balanced images: a prior p(z) without parents, and ε(∅), from which guidance
    leads away, are those of p'(x); so would mechanisms of attributes be, p(a | pa_a), and an oracle's p(a | x), which
    are therefore not to be trained on such batches.

    Args:
        data: attributes by name, each (N,), 0 or 1.
        names: the attributes to balance.

    Returns:
        float64 (N,), of mean 1, on the CPU.

    Raises:
        InputError: an attribute is constant.
    """
    weights = torch.ones(len(data[names[0]]), dtype=torch.float64)
    for name in names:
        value = data[name].cpu()
        rare, share = find_rare(value)
        if share == 0:
            raise InputError(f"{option('balance')} {name}: is {1 - rare} in every image")
        factor = SHARE / (1 - SHARE) * (1 - share) / share
        weights[value == rare] = weights[value == rare].clamp_min(min(factor, MOST))
    return weights / weights.mean()


def find_rare(value: Tensor, weights: Tensor | None = None) -> tuple[int, float]:
    """Return the rarer value of a binary attribute, and its share of the images, or of those that are drawn.

    Args:
        value: 0 or 1, (N,).
        weights: how often each image is drawn, (N,); None is equally often.
    """
    rare = int(value.double().mean() <= 0.5)
    chosen = (value == rare).double().cpu()
    return rare, (chosen if weights is None else chosen * weights / weights.mean()).mean().item()
