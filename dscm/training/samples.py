"""Pictures of what a mechanism samples while it is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dscm.causal.image_mechanism import ImageMechanism
from dscm.data.scaling import to_unit
from dscm.files import atomic_path

SAMPLES = 64  # images in a grid
SAMPLE_STEPS = 25  # of a diffusion mechanism that draws them


@torch.no_grad()
def draw_samples(
    mechanism: ImageMechanism[Any], parents: Mapping[str, Tensor], path: Path, device: torch.device
) -> None:
    """Draw an image for each of the first parents, always from the same noise, as a grid.

    Args:
        mechanism: the mechanism of the image.
        parents: each (N,).
        path: the file.
        device: the device of the mechanism.
    """
    from torchvision.utils import save_image  # takes longer to import than all of this package

    if hasattr(mechanism.sampling, "steps"):
        mechanism = mechanism.using(steps=SAMPLE_STEPS)
    shown = {name: value[:SAMPLES] for name, value in parents.items()}
    noise = mechanism.sample_noise(min(map(len, shown.values())), torch.Generator(device).manual_seed(0))
    images = mechanism.predict(noise, shown)
    with atomic_path(path) as temporary:
        save_image(to_unit(images), temporary, nrow=8)
