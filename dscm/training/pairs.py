"""Batches in which half of the images show what the other half shows, under other parents and the same noise."""

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

    Partners differ in their parents, so that p(pa) of the batches changes. p(x | pa) stays what it is where the parents
    were drawn independently of what a group shows, as those of markers that were drawn onto images.

    Args:
        group: images of one number show the same thing, int64 (N,).
        parents: the attributes that may differ, each (N,).

    Raises:
        InputError: no image has a partner.
    """

    def __init__(self, group: Tensor, parents: Mapping[str, Tensor]) -> None:
        columns = [value.cpu().double() for value in (group, *parents.values())]
        _, kind = torch.stack(columns, dim=1).unique(dim=0, return_inverse=True)  # ascending by group, then by parents
        self.group, self.order = group, kind.argsort(stable=True)
        self.first, last = _find_runs(group.cpu()[self.order], group.cpu())
        start, self.end = _find_runs(kind[self.order], kind)
        self.size = last - self.first
        self.partners = self.size - (self.end - start)  # how many each image has
        if not self.partners.any():
            raise InputError(f"{option('pairs')}: no two images of a {GROUP} differ in their attributes")

    def draw(self, index: Tensor, seed: int) -> Tensor:
        """Replace the second half of a batch by partners of the first, where these have any.

        Args:
            index: indices of images, (B,), on the CPU.
            seed: of the choice among partners.

        Returns:
            Indices, (B,).
        """
        first, second, rest = _halve(index)
        chance = torch.rand(len(first), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = (chance * self.partners[first]).long()
        start = self.first[first]
        partner = self.order[start + (self.end[first] - start + step) % self.size[first]]
        return torch.cat([first, torch.where(self.partners[first] > 0, partner, second), rest])

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
