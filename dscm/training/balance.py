"""Draw some images more often than others: rare ones, or those that break a dependence. p(x | pa) stays the same."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dscm.errors import InputError, option

SHARE = 0.3  # of the images drawn that have the rare value of a balanced attribute, unless `MOST` is too little for it
MOST = 10.0  # times as often as others an image with a rare value is drawn at most
ROUNDS = 50  # of raking, in each of which every pair of classes is made independent once


def find_weights(data: Mapping[str, Tensor], names: Sequence[str], groups: Sequence[Sequence[str]] = ()) -> Tensor:
    """Weigh images by `balance` and then by `make_independent`, where these have something to do.

    Args:
        data: attributes by name, each (N,).
        names, groups: as these take them.

    Returns:
        float64 (N,), of mean 1, on the CPU.

    Raises:
        InputError: as these.
    """
    weights = balance(data, names) if names else torch.ones(len(next(iter(data.values()))), dtype=torch.float64)
    return make_independent(data, groups, weights) if groups else weights


def make_independent(data: Mapping[str, Tensor], groups: Sequence[Sequence[str]], weights: Tensor) -> Tensor:
    """Weigh images so that the classes that an intervention sets are independent of every other class.

    In the data women seldom wear glasses; an intervention puts them on all the same, and an oracle that learned to
    read sex off glasses then misreads her. Raking: for each pair of classes (a, b), in turn and many times,

        ``w ← w · p(a)·p(b) / p_w(a, b)``,

    with weights between 1/`MOST` and `MOST` of the mean, and then each class to the share p(a) that it had at first.
    Where the bounds bite, some of the dependence stays; values that never come together stay apart.

    Correction: none for p(x | pa), as in `balance`, if all other classes cause the image or tell nothing more.
    What an oracle reads is p'(a | x), in whose p'(pa) interventions are as likely as anything else: that is what is
    wanted of whoever judges them.

    Args:
        data: attributes by name, each (N,), classes int64; numbers are left alone.
        groups: the interventions, each as the variables that it sets together.
        weights: float64 (N,), to start from.

    Returns:
        float64 (N,), of mean 1.

    Raises:
        InputError: no intervention sets a class beside which there is another.

    Source: Deming and Stephan 1940, "On a least squares adjustment of a sampled frequency table when the expected
    marginal totals are known".
    """
    classes = {name: value.cpu() for name, value in data.items() if not value.is_floating_point()}
    pairs = find_pairs([*classes], groups)
    if not pairs:
        raise InputError(f"{option('independent')} on: no intervention sets a class beside which there is another")
    shares = {name: torch.bincount(classes[name], weights) / weights.sum() for pair in pairs for name in pair}
    tables = []
    for one, other in pairs:
        wanted = torch.outer(shares[one], shares[other]).flatten()
        tables.append((classes[one] * len(shares[other]) + classes[other], len(wanted), wanted))
    for _ in range(ROUNDS):
        for cell, size, wanted in tables:
            joint = torch.bincount(cell, weights, minlength=size) / weights.sum()
            weights = weights * torch.where(joint > 0, wanted / joint, 1.0)[cell]
        weights = (weights / weights.mean()).clamp(1 / MOST, MOST)
        for name, share in shares.items():
            drawn = torch.bincount(classes[name], weights) / weights.sum()
            weights = weights * torch.where(drawn > 0, share / drawn, 1.0)[classes[name]]
    return weights / weights.mean()


def find_pairs(names: Sequence[str], groups: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Pair what interventions set with what they do not set together with it, each pair once.

    Args:
        names: the variables that count.
        groups: the interventions, each as the variables that it sets together.
    """
    pairs = [
        (one, other) for group in groups for one in group for other in names if one in names and other not in group
    ]
    return list({frozenset(pair): pair for pair in reversed(pairs)}.values())[::-1]


def balance(data: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Weigh images so that the rare values of binary attributes are drawn more often.

    ``w = max over the attributes of r_a`` where an image has the rare value of a, else 1. With the share p of that
    value, ``r_a = (s/(1 − s))·(1 − p)/p`` within [1, `MOST`] would by itself bring it to ``s =`` `SHARE`; several
    attributes share the batch, and each gets somewhat less. The bound keeps few images from being learned by heart.

    Correction: none is needed for the mechanism of the image if the attributes are among its parents. Weights w(pa)
    make ``p'(x, pa) ∝ w(pa)·p(pa)·p(x | pa)``, of which p'(x | pa) = p(x | pa), and likewise p(z | pa) of a code. What
    does not condition on them follows the balanced images: a prior p(z) without parents, and ε(∅), from which guidance
    leads away, are those of p'(x); so would mechanisms of attributes be, p(a | pa_a), and an oracle's p(a | x), to
    which a rare value would seem likelier than it is: neither is to be trained on such batches.

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
