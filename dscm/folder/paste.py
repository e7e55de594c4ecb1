"""Blend the changes of a counterfactual into an image of full resolution and depth; other pixels stay as they are."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.data.original import Original
from dscm.data.scaling import to_unit

FAINT, CLEAR = 0.02, 0.06  # changes on [0, 1] at and below which the mask is 0, and at and above which it is 1
EPSILON = 1e-6  # of an opacity, to divide by
REACH = 2  # the mask extends beyond a change by so many pixels of the model's image


def change_mask(x: Tensor, reference: Tensor) -> Tensor:
    """Locate the effect of an intervention.

    Args:
        x: counterfactuals in [-1, 1], shape (B, C, H, W).
        reference: their compositions.

    Returns:
        (B, 1, H, W) in [0, 1]: 0 where nothing changed, 1 where something did, with soft edges.
    """
    change = (to_unit(x) - to_unit(reference)).abs().mean(dim=1, keepdim=True)
    change = F.avg_pool2d(change, 3, 1, 1, count_include_pad=False)  # suppresses single pixels, which are noise
    mask = ((change - FAINT) / (CLEAR - FAINT)).clamp(0, 1)
    mask = F.max_pool2d(mask, 2 * REACH + 1, 1, REACH)
    return F.avg_pool2d(mask, 3, 1, 1, count_include_pad=False)


def paste_into(original: Original, counterfactual: Tensor, mask: Tensor) -> np.ndarray:
    """Blend a counterfactual of an image over black into that image, whose opacity stays.

    Args:
        original: the image.
        counterfactual, mask: as `paste` takes them.

    Returns:
        Colours as `paste` returns them, which over black show the blend; where nothing shows they are the original's.
    """
    if original.alpha is None:
        return paste(original.pixels, counterfactual, mask)
    opacity = torch.from_numpy(original.opacity)[None]
    return paste(original.pixels, counterfactual.cpu() / opacity.clamp(min=EPSILON), mask.cpu() * (opacity > 0))


def paste(pixels: np.ndarray, counterfactual: Tensor, mask: Tensor) -> np.ndarray:
    """Blend a counterfactual into the original image.

    Args:
        pixels: the original, unsigned integers of shape (H, W) or (H, W, 3).
        counterfactual: at the same size, in [0, 1], shape (1 or 3, H, W).
        mask: the weight of the counterfactual at each pixel, (1, H, W); clipped to [0, 1], like the counterfactual.

    Returns:
        The blend in the dtype of ``pixels``: (H, W), or (H, W, 3) if either is in colour. Where the mask is 0 it equals
        ``pixels``.
    """
    full = np.iinfo(pixels.dtype).max
    weight = mask.clamp(0, 1).cpu().double().permute(1, 2, 0).numpy()  # (H, W, 1)
    target = counterfactual.clamp(0, 1).cpu().double().permute(1, 2, 0).numpy() * full  # (H, W, C)
    original = pixels if pixels.ndim == 3 else pixels[..., None]
    blend = np.rint(original + weight * (target - original)).astype(pixels.dtype)
    return blend[..., 0] if blend.shape[-1] == 1 else blend
