"""Minimality: how close a counterfactual stays to its image, among the real images of the old and of the new value."""

from collections.abc import Callable

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]  # of embeddings (…, F) and (…, F), broadcast, the distances (…)
NEW_WEIGHT, OLD_WEIGHT = 0.8, 0.2
ELEMENTS = 2**22  # of differences at a time


def mean_difference(r: Tensor, x: Tensor) -> Tensor:
    """Return the mean absolute difference of features, (…, F) and (…, F)."""
    return (r - x).abs().mean(dim=-1)


def latent_divergence(
    counterfactual: Tensor,
    factual: Tensor,
    changed: Tensor,
    groups: Tensor,
    distance: Distance = mean_difference,
) -> Tensor:
    """Return the counterfactual latent divergence, CLD, of each image (Melistas et al. 2024).

    With δ = D(φ(x*), φ(x)), P₁ is the share of test images r whose value is like that of x* with D(φ(r), φ(x)) ≤ δ;
    P₂ the share of those whose value is like that of x, x among them, with D(φ(r), φ(x)) ≥ δ; and
    ``CLD = ln(0.8·exp(P₁) + 0.2·exp(P₂))``, from 0 to 1, lower is better. To return x as it is scores
    ln(0.8 + 0.2e) = 0.295, so a low score alone praises doing nothing; it goes with effectiveness.

    The released code departs from this: the divergence of its autoencoder takes the mean for the log standard
    deviation too; the value of r is that of whichever variable was drawn for r's own batch, not of the one that was
    set; bins come from the training set; and images whose new value is like none are left out (here NaN).

    Args:
        counterfactual, factual: embeddings, (N, F), of each x* and x; the factual ones are also those of every r.
        changed: the group of the new value of the variable that was set, as `group_values` numbers them, (N,).
        groups: the group of its factual value, (N,).
        distance: D, of r and x in this order.

    Returns:
        Float64, (N,).
    """
    delta = distance(counterfactual, factual)
    new = _share(factual, delta, changed, groups, distance, torch.le)
    old = _share(factual, delta, groups, groups, distance, torch.ge)
    return (NEW_WEIGHT * new.exp() + OLD_WEIGHT * old.exp()).log()


def _share(
    factual: Tensor,
    delta: Tensor,
    wanted: Tensor,
    groups: Tensor,
    distance: Distance,
    compare: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return, of the images r of the wanted group, the share whose distance to x compares with δ, float64 (N,)."""
    share = torch.full(delta.shape, torch.nan, dtype=torch.float64, device=delta.device)
    for group in groups.unique():
        members = factual[groups == group]
        rows = max(1, ELEMENTS // members.numel())
        for part in (wanted == group).nonzero().flatten().split(rows):
            distances = distance(members[None], factual[part, None])
            share[part] = compare(distances, delta[part, None]).double().mean(dim=1)
    return share
