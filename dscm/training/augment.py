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


def place_windows(spread: Tensor, window: int, generator: torch.Generator) -> Tensor:
    """Place a window on each image, around a pixel in which images of its group differ.

    The pixel lies in the middle half of the window, unless that would not lie in the image; any of them is as probable.
    Where none differ, any place is.

    Args:
        spread: how far images of each one's group are apart, (B, C, H, W), as `Pairs.spread`.
        window: height and width of the windows, at most H and W.
        generator: source of the places.

    Returns:
        The first row and the first column of each window, int64 (B, 2).
    """
    height, width = spread.shape[-2:]
    differs = spread.amax(dim=1).flatten(1) > 0
    weight = torch.where(differs.any(dim=1, keepdim=True), differs, True).double()
    pixel = weight.multinomial(1, generator=generator)[:, 0]
    place = torch.stack([pixel // width, pixel % width], dim=1)
    offset = torch.randint(window // 4, window - window // 4, place.shape, generator=generator, device=place.device)
    most = torch.tensor([height - window, width - window], device=place.device)
    return torch.minimum((place - offset).clamp_min(0), most)


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
