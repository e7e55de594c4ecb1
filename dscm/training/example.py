"""Further training of diffusion mechanisms by true counterfactuals: images that show one thing under other parents."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.variables import Variable
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.objective import SMALL, predict_clean
from dscm.training.obedience import encode
from dscm.training.pairs import find_partners

ALIKE = 0.3  # λ, what a change counts where all images of a group are alike


class Example(nn.Module):
    """Add to a mechanism's loss how far its predictions for two images of one thing are from these: ``η·D·missed``.

    Of a pair, x under pa and x° under pa°, x° is the true counterfactual of x. From one x_t of x, at a σ that
    `predict_clean` draws, the network shall predict x given pa and x° given pa°. With y = x̂₀(x_t, pa),
    y° = x̂₀(x_t, pa°), r the range of a pixel over the images of the group, m = 1 where r > 0, else 0, and λ = 0.3:

        missed = (‖m·(y − x)‖² + ‖m·(y° − x°)‖² + λ·‖(1 − m)·(y° − y)‖²) / ‖r‖²

    An x_t that shows a marker does not occur under parents without one, so that the usual loss says nothing of it, but
    counterfactuals pass through it. The denominator lets the smallest difference count as much as the largest. m holds
    what others of the group lack, too: of two markers, that which pa° leaves counts as much as that which it takes.
    Without it, a network that let both fade was seldom wrong, and never learned which is which.

    Only what x shows can be told from x_t. A pair is therefore turned so that no binary parent is 0 under pa and 1
    under pa°, and one that has such a parent either way does not count.

    Args:
        mechanism: trained.
        weight: η.
    """

    def __init__(self, mechanism: DiffusionMechanism, weight: float) -> None:
        super().__init__()
        self.mechanism, self.weight = mechanism, weight

    def forward(
        self,
        value: Tensor,
        parents: Mapping[str, Tensor],
        generator: torch.Generator,
        like: Tensor,
        spread: Tensor,
        **rest: Any,
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value, parents, generator, rest: as in `Obedience`.
            like: of each image, the first of its pair, int64 (B,), as `Pairs.like`.
            spread: r, (B, C, H, W), as `Pairs.spread`.

        Returns:
            Scalars: ``loss``; ``missed``, a mean over the pairs of the batch that count; and the mechanism's other
            terms.
        """
        terms = self.mechanism(value, parents, generator, like=like, **rest)
        own, other = orient(like, parents, self.mechanism.scaling.variables)
        obs, new = ({name: value[index] for name, value in parents.items()} for index in (own, other))
        pa, changed = (encode(self.mechanism, attributes) for attributes in (obs, new))
        x = value[own]
        z = self.mechanism.encode(x, pa)
        conditions = [self.mechanism.condition(z, encoded) for encoded in (pa, changed)]
        images = predict_clean(self.mechanism.eps, conditions, x, self.mechanism.schedule, generator, SMALL)
        spread = spread[own] * (own != other)[:, None, None, None]
        missed = miss_pairs(images[0], images[1], x, value[other], spread)
        return {**terms, "missed": missed.detach(), "loss": terms["loss"] + self.weight * value[0].numel() * missed}


def orient(like: Tensor, parents: Mapping[str, Tensor], variables: Sequence[Variable]) -> tuple[Tensor, Tensor]:
    """Turn each pair of a batch so that no binary parent of the second is 1 where that of the first is 0.

    Args:
        like: as in `Example`.
        parents: each (B,).
        variables: the parents of the image.

    Returns:
        The first and the second of each pair, int64 (B // 2,); of one that cannot be turned so, or of an image without
        a partner, the first twice.
    """
    first = torch.arange(len(like) // 2, device=like.device)
    second = find_partners(like, len(first))
    some = [parents[v.name] for v in variables if v.kind == "binary"]
    gains, loses = (
        torch.stack([torch.zeros_like(a, dtype=torch.bool), *((p[a] < p[b]) for p in some)]).any(dim=0)
        for a, b in ((first, second), (second, first))
    )
    own = torch.where(gains, second, first)
    return own, torch.where(gains & loses, own, torch.where(gains, first, second))


def miss_pairs(own: Tensor, other: Tensor, value: Tensor, truth: Tensor, spread: Tensor) -> Tensor:
    """Compute ``missed`` of `Example`, a scalar: 0 if both images are predicted.

    Args:
        own, other: x̂₀ given the parents of x and given those of x°, (B, C, H, W).
        value, truth: x and x°.
        spread: r; images where it is 0 everywhere do not count.
    """
    differs, size = spread > 0, spread.square().sum(dim=(1, 2, 3))
    inside = ((own - value).square() + (other - truth).square()) * differs
    outside = (other - own).square() * ~differs
    counts = size > 0
    missed = (inside + ALIKE * outside).sum(dim=(1, 2, 3)) / torch.where(counts, size, 1.0)
    return (missed * counts).sum() / counts.sum().clamp_min(1)
