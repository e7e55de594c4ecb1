"""Grey levels and what networks see; no other file scales images."""

import torch
from torch import Tensor


def to_signed(image: Tensor) -> Tensor:
    """Map grey levels 0 to 255 to [-1, 1], float32."""
    return image.float() / 127.5 - 1


def to_levels(x: Tensor) -> Tensor:
    """Clamp [-1, 1] and map it to whole grey levels 0 to 255, uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_unit(x: Tensor) -> Tensor:
    """Clamp [-1, 1] and map it to [0, 1], the range on which L1 and LPIPS are stated."""
    return (x.clamp(-1, 1) + 1) / 2
