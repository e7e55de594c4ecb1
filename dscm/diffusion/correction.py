"""Answers that are measured, and corrected by what they miss."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dscm.causal.encoding import ParentScaling

Reader = Callable[[Tensor], Mapping[str, Tensor]]  # measures attributes, each (B,), of images in [-1, 1]
REACH = 0.2  # standard deviations in the data, by which what the network is told may be moved


def correct(
    generate: Callable[[Mapping[str, Tensor]], Tensor],
    read: Reader,
    parents: Mapping[str, Tensor],
    intervened: Mapping[str, Tensor],
    rounds: int,
    scaling: ParentScaling,
) -> Tensor:
    """Generate images again, told in addition what the last ones missed of their parents.

    A network that is told a thickness of 3 may draw one of 2.9. The noise stays, and what the network is told is
    ``c ← c + (pa − h(f(u, c)))``, from c = pa on, within `REACH` of pa, h being the measurement. Each image keeps the
    round that misses least, in standard deviations, summed over what is measured: what sets one attribute right may
    set another one wrong.

    Args:
        generate: ``f(u, ·)``, makes images in [-1, 1], (B, C, H, W), of parents.
        read: h, measures those parents that can be measured.
        parents: pa, each (B,).
        intervened: the variables that are set, each with the images in which that changes them, bool (B,) or (); others
            stay as they are generated first.
        rounds: how many times images are generated after the first.
        scaling: knows the standard deviations of the parents.

    Returns:
        The images, (B, C, H, W).

    Source: ours.
    """
    best = image = generate(parents)
    told, least = dict(parents), torch.full((len(image),), torch.inf, device=image.device)
    changed = torch.stack([x.to(image.device).expand(len(image)) for x in intervened.values()]).any(dim=0)
    for left in reversed(range(rounds + 1)):
        missed = {name: parents[name] - value.to(parents[name]) for name, value in read(image).items()}
        spread = {name: scaling.spread(name) for name in missed}
        total = torch.stack([missed[name].abs() / spread[name] for name in missed]).sum(dim=0)
        best = torch.where((changed & (total < least))[:, None, None, None], image, best)
        least = torch.minimum(total, least)
        if left:
            moved = {name: told[name] - parents[name] + missed[name] for name in missed}
            told |= {k: parents[k] + m.clamp(-REACH * spread[k], REACH * spread[k]) for k, m in moved.items()}
            image = generate(told)
    return best
