"""LPIPS, the perceptual distance (Zhang et al. 2018), through the ``lpips`` package."""

import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 64  # least side in pixels that AlexNet's pooling accepts


def load_lpips(device: torch.device) -> tuple[Callable[[Tensor, Tensor], Tensor] | None, str]:
    """Load LPIPS with AlexNet.

    Args:
        device: where it runs.

    Returns:
        A function of two batches of images in [-1, 1], shape (B, 1 or 3, H, W), that returns a distance for each
        pair, (B,), and an empty reason; or None and the reason, where the weights of AlexNet are missing.
    """
    try:
        import lpips

        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the package, like the progress of its download
            network = lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False).to(device)
    except Exception as error:  # a missing network and a truncated file fail in many ways
        return None, str(error).splitlines()[0] if str(error) else type(error).__name__

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return network(prepare(x), prepare(y)).flatten()

    return distance, ""


def prepare(x: Tensor) -> Tensor:
    """Clamp images in [-1, 1], (B, 1 or 3, H, W), give them three channels, and enlarge them to `SMALLEST` pixels."""
    x = x.clamp(-1, 1)
    if x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    if min(x.shape[-2:]) < SMALLEST:
        size = [max(SMALLEST, round(side * SMALLEST / min(x.shape[-2:]))) for side in x.shape[-2:]]
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return x
