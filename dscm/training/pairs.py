"""Batches in which half of the images show what the other half shows, under other parents and the same noise."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.data.group import GROUP
from dscm.errors import InputError, option


class Pairs:
    """Find for images others of their group whose parents differ, their partners.

    What is drawn at random for the first half of a batch is used for their partners in the second half, too. The noise
    that the images of a pair share leaves the difference of their gradients, which is what the parents make.

    Partners differ in as few parents as any two of their group, so that p(pa) of the batches changes. p(x | pa) stays
    what it is where the parents were drawn independently of what a group shows, as those of markers that were drawn
    onto images.

    Args:
        group: images of one number show the same thing, int64 (N,).
        parents: the attributes that may differ, each (N,).

    Raises:
        InputError: no image has a partner.
    """

    def __init__(self, group: Tensor, parents: Mapping[str, Tensor]) -> None:
        self.group, self.order = group, group.cpu().argsort(stable=True)
        self.parents = torch.stack([value.cpu().double() for value in parents.values()], dim=1)
        self.first, last = _find_runs(group.cpu()[self.order], group.cpu())
        self.size = last - self.first
        self.largest = int(self.size.max())
        kinds = torch.cat([group.cpu()[:, None].double(), self.parents], dim=1).unique(dim=0)
        if len(kinds) == len(group.unique()):
            raise InputError(f"{option('pairs')}: no two images of a {GROUP} differ in their attributes")

    def draw(self, index: Tensor, seed: int) -> Tensor:
        """Replace the second half of a batch by partners of the first, where these have any.

        Args:
            index: indices of images, (B,), on the CPU.
            seed: of the choice among partners, each of which is as probable.

        Returns:
            Indices, (B,).
        """
        first, second, rest = _halve(index)
        place = torch.arange(self.largest).expand(len(first), -1)
        members = self.order[self.first[first, None] + place % self.size[first, None]]
        changes = (self.parents[members] != self.parents[first, None]).sum(dim=2).double()
        changes[(changes == 0) | (place >= self.size[first, None])] = math.inf
        least = changes.amin(dim=1, keepdim=True)
        chance = torch.rand(changes.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        partner = members.gather(1, torch.where(changes == least, chance, -1.0).argmax(dim=1, keepdim=True))[:, 0]
        return torch.cat([first, torch.where(least[:, 0] < math.inf, partner, second), rest])

    def spread(self, index: Tensor, images: Tensor) -> Tensor:
        """Return how far the images of a group are apart in each pixel, max − min, of each image of a batch.

        Args:
            index: indices of images, (B,).
            images: all of them, uint8 (N, C, H, W).

        Returns:
            Levels, uint8 (B, C, H, W).
        """
        low = high = images[index]
        order, first, size = (value.to(index.device) for value in (self.order, self.first, self.size))
        for step in range(self.largest):
            other = images[order[first[index] + step % size[index]]]
            low, high = torch.minimum(low, other), torch.maximum(high, other)
        return high - low

    def like(self, index: Tensor) -> Tensor:
        """Return for each image of a batch, (B,), the one whose draws it uses: that of its pair which comes first."""
        first, second, rest = _halve(torch.arange(len(index), device=index.device))
        paired = self.group[index[first]] == self.group[index[second]]
        return torch.cat([first, torch.where(paired, first, second), rest])


def find_partners(like: Tensor, n: int) -> Tensor:
    """Return the partners of the first n images of a batch, int64 (n,); of one without, itself.

    Args:
        like: as `Pairs.like` returns, (B,).
        n: at most half of B.
    """
    own = torch.arange(n, device=like.device)
    other = own + len(like) // 2
    return torch.where(like[other] == own, other, own)


def find_groups(data: Mapping[str, Tensor], graph: Graph) -> dict[str, Tensor]:
    """Return what says which images of a split show the same thing, int64 (N,), by its name.

    Raises:
        InputError: the data do not say it.
    """
    if GROUP not in data or GROUP in (variable.name for variable in graph.attributes):
        raise InputError(f"{option('pairs')}: no column {GROUP!r} of the data says which images show the same thing")
    return {GROUP: data[GROUP]}


def _halve(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split a batch into two halves and an odd rest."""
    half = len(batch) // 2
    return batch[:half], batch[half : 2 * half], batch[2 * half :]


def _find_runs(ordered: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the run of equal numbers begins and ends, of each value, in numbers of which equal ones adjoin."""
    return torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
