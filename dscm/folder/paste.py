"""Blend what an intervention changed into an image of full resolution and depth, and leave every other pixel alone."""

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from dscm.data.scaling import to_unit

FAINT, CLEAR = 0.02, 0.06  # changes on [0, 1] below which nothing is blended in, and from which all is
REACH = 2  # pixels of the model around a change that are blended in as well


def change_mask(x: Tensor, reference: Tensor) -> Tensor:
    """Find where the effect of an intervention shows.

    Args:
        x: counterfactuals in [-1, 1], shape (B, C, H, W).
        reference: their compositions.

    Returns:
        (B, 1, H, W) in [0, 1]: 0 where nothing changed, 1 where something did, with soft edges.
    """
    change = (to_unit(x) - to_unit(reference)).abs().mean(dim=1, keepdim=True)
    change = F.avg_pool2d(change, 3, 1, 1, count_include_pad=False)  # single pixels are noise
    mask = ((change - FAINT) / (CLEAR - FAINT)).clamp(0, 1)
    mask = F.max_pool2d(mask, 2 * REACH + 1, 1, REACH)
    return F.avg_pool2d(mask, 3, 1, 1, count_include_pad=False)


def paste(pixels: np.ndarray, answer: Tensor, mask: Tensor) -> np.ndarray:
    """Blend an answer into the image that it is about.

    Args:
        pixels: the image, unsigned integers of shape (H, W) or (H, W, 3).
        answer: the counterfactual at the same size, in [0, 1], shape (1 or 3, H, W).
        mask: its weight at each pixel, (1, H, W); what overshoots [0, 1] is clipped.

    Returns:
        The blend in the dtype of ``pixels``: (H, W), or (H, W, 3) if either is in colour. Where the mask is 0 it is
        ``pixels`` itself.
    """
    full = np.iinfo(pixels.dtype).max
    weight = mask.clamp(0, 1).cpu().double().permute(1, 2, 0).numpy()  # (H, W, 1)
    drawn = answer.clamp(0, 1).cpu().double().permute(1, 2, 0).numpy() * full  # (H, W, C)
    own = pixels if pixels.ndim == 3 else pixels[..., None]
    blend = np.rint(own + weight * (drawn - own)).astype(pixels.dtype)
    return blend[..., 0] if blend.shape[-1] == 1 else blend
