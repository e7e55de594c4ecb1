"""Conversion between grey levels and the range of networks; no other file scales images."""

import torch
from torch import Tensor


def to_signed(image: Tensor) -> Tensor:
    """Map grey levels in [0, 255] to [-1, 1], float32."""
    return image.float() / 127.5 - 1


def to_levels(x: Tensor) -> Tensor:
    """Clamp to [-1, 1] and map to whole grey levels in [0, 255], uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_unit(x: Tensor) -> Tensor:
    """Clamp to [-1, 1] and map to [0, 1], the range in which L1 and LPIPS are reported."""
    return (x.clamp(-1, 1) + 1) / 2


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean absolute difference on [0, 1] of images in [-1, 1], shape (B, C, H, W); (B,)."""
    return (to_unit(x) - to_unit(y)).abs().mean(dim=(1, 2, 3))


def edges(x: Tensor, y: Tensor) -> Tensor:
    """Return the total variation of the difference on [0, 1] of images in [-1, 1], shape (B, C, H, W); (B,).

    It is the mean absolute difference of horizontal neighbours and that of vertical ones, added (Rudin, Osher and
    Fatemi 1992): large where what differs has many or sharp edges.
    """
    difference = to_unit(x) - to_unit(y)
    return sum((difference.diff(dim=dim).abs().mean(dim=(1, 2, 3)) for dim in (2, 3)), x.new_zeros(len(x)))
