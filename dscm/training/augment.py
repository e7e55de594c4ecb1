"""Change images at random in ways that leave their attributes as they are."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.diffusion.objective import share


def augment(value: Tensor, flip: bool, move: int, generator: torch.Generator, like: Tensor | None = None) -> Tensor:
    """Mirror half of the images, and move each.

    Args:
        value: images, (B, C, H, W).
        flip: whether to mirror.
        move: pixels by which an image is moved at most, along each axis; the pixels of its edge are repeated.
        generator: source of both.
        like: as in `dscm.diffusion.objective.share`.
    """
    n, device = len(value), value.device
    if flip:
        mirrored = share(torch.rand(n, generator=generator, device=device), like) < 0.5
        value = torch.where(mirrored[:, None, None, None], value.flip(-1), value)
    if move:
        places = share(torch.randint(2 * move + 1, (n, 2), generator=generator, device=device), like)
        value = crop(F.pad(value, [move] * 4, mode="replicate"), places, value.shape[-2], value.shape[-1])
    return value


def crop(value: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Cut a window out of each image.

    Args:
        value: images, (B, C, H, W).
        places: the first row and the first column of each window, int64 (B, 2).
        height, width: of the windows.

    Returns:
        Images, (B, C, height, width).
    """
    rows, columns = (
        places[:, axis, None] + torch.arange(size, device=value.device) for axis, size in enumerate((height, width))
    )
    image = torch.arange(len(value), device=value.device)[:, None, None]
    return value.movedim(1, -1)[image, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
