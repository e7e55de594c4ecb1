"""Synthetic faces with attributes of CelebA-HQ; a face redrawn with other attributes is its true counterfactual."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dscm.data.phantoms.canvas import Canvas, mix, pixel_grid
from dscm.data.phantoms.portrait import Look, paint_portrait
from dscm.data.phantoms.seeds import draw_normal, draw_uniform, draw_unit, make_generators

SIZE = 64  # height and width in pixels
BATCH = 32  # faces painted together; as many as fit the cache of a CPU
CAUSES: Mapping[str, tuple[str | None, tuple[float, ...]]] = {
    # attribute: (parent, P(1 | each value of the parent))
    "Smiling": (None, (0.5,)),
    "Mouth_Slightly_Open": ("Smiling", (0.25, 0.75)),
    "Eyeglasses": (None, (0.2,)),
    "Male": (None, (0.4,)),
    "Wearing_Lipstick": ("Male", (0.6, 0.02)),
    "Bald": ("Male", (0.01, 0.15)),
    "Wearing_Hat": (None, (0.1,)),
}
RANGES = {  # ranges of the numbers of a `Look`, uniform
    "shift_x": (-0.06, 0.06),
    "shift_y": (0.06, 0.16),
    "angle": (-0.12, 0.12),
    "scale": (0.6, 0.68),
    "head_width": (0.7, 0.8),
    "jaw": (-0.03, 0.05),
    "blush": (0.0, 0.3),
    "hair_volume": (0.06, 0.2),
    "hair_length": (-0.4, 1.4),
    "hairline": (-0.72, -0.5),
    "parting": (-0.14, 0.14),
    "eye_spacing": (0.3, 0.36),
    "eye_openness": (0.1, 0.15),
    "gaze": (-0.05, 0.05),
    "brow_height": (-0.36, -0.3),
    "brow_tilt": (-0.05, 0.02),
    "nose": (0.2, 0.28),
    "mouth_width": (0.25, 0.33),
    "mouth_height": (0.52, 0.58),
    "lips": (0.062, 0.09),
    "beard": (0.4, 0.8),
    "lens": (0.23, 0.26),
    "brim": (0.2, 0.55),
    "backdrop_angle": (0.0, 6.28),
    "light": (0.0, 0.22),
    "light_angle": (0.0, 6.28),
}
PALETTES = {  # palettes of the colours of a `Look`, uniform between neighbours
    "skin": ("ffe0cc", "f5cba7", "e0ac7e", "c68642", "8d5524", "643f25"),
    "hair": ("1c1614", "3b2417", "6b4226", "a56b3a", "d9b36c", "efe0b0", "b8b4b0", "8c2f1b"),
    "eye": ("3b2313", "6b4a22", "5f7f3a", "3f7fa6", "7aa7c7"),
    "lipstick": ("d0103c", "a3123f", "e0407a", "b0124a"),
    "frame": ("101014", "4a2410", "7a1020", "14305c"),
    "hat": ("b02a30", "d98a1e", "2f7a4a", "25508f", "5a3a80", "3a3a40"),
    "clothes": ("2b3a67", "7a2e3a", "e8e4da", "3d6b52", "d9a441", "222226"),
    "backdrop": ("9ec5e8", "cfe3d4", "f3e3b8", "e9c6cf", "b7a9d6", "7f8c9a", "d8d8d8"),
    "backdrop_end": ("6f9bc4", "a9c9b0", "d9bd80", "c99aa6", "8a7db8", "56616e", "f4f4f4"),
}
JPEG: dict[str, Any] = {
    "quality": 95,
    "subsampling": 0,  # the default halves the resolution of colours and blurs lips, which are four pixels high
}
GRAIN = 0.012  # standard deviation of the sensor noise as a fraction of full scale


class Nuisance(NamedTuple):
    """Everything in a face besides its attributes: its look, fields of N faces, and its noise, (N, 3, SIZE, SIZE)."""

    look: Look
    noise: Tensor


def draw_attributes(seed: int, index: Tensor) -> dict[str, Tensor]:
    """Sample the attributes of images from `CAUSES`.

    Args:
        seed: seed of the data set.
        index: indices of the images, int64 (N,).

    Returns:
        Each attribute by name, 0 or 1, int64 (N,).
    """
    generators = make_generators(seed, index, stream=0)
    values: dict[str, Tensor] = {}
    for (name, (parent, probabilities)), draw in zip(CAUSES.items(), draw_unit(generators, CAUSES).values()):
        probability = torch.tensor(probabilities)[values[parent] if parent else 0]
        values[name] = (draw < probability).long()
    return values


def draw_nuisance(seed: int, index: Tensor) -> Nuisance:
    """Sample everything in the images besides their attributes.

    Args:
        seed: seed of the data set.
        index: indices of the images, int64 (N,).

    Returns:
        The nuisance of N images.
    """
    generators = make_generators(seed, index, stream=1)
    numbers = draw_uniform(generators, RANGES)
    colours = {name: mix(PALETTES[name], place) for name, place in draw_unit(generators, PALETTES).items()}
    return Nuisance(Look(**numbers, **colours), GRAIN * draw_normal(generators, 3, SIZE, SIZE))


def render(nuisance: Nuisance, attributes: Mapping[str, Tensor]) -> Tensor:
    """Paint faces; an attribute changes only the pixels of its own part.

    Args:
        nuisance: the nuisance of N images.
        attributes: 0 or 1, each (N,), for every name in `CAUSES`; others are ignored.

    Returns:
        uint8 (N, 3, SIZE, SIZE).
    """
    look = Look(*(field[..., None, None] for field in nuisance.look))  # broadcasts with images
    x, y = pixel_grid(SIZE, SIZE)
    share = (0.5 + 0.4 * (x * look.backdrop_angle.cos() + y * look.backdrop_angle.sin())).clamp(0, 1)
    image = torch.lerp(look.backdrop, look.backdrop_end, share[:, None])
    canvas = Canvas(image, *locate(nuisance.look), 2 / SIZE / look.scale)
    paint_portrait(canvas, look, {name: attributes[name].float()[:, None, None] for name in CAUSES})
    towards = x * look.light_angle.cos() + y * look.light_angle.sin()
    image = image * (1 + look.light * towards)[:, None] + nuisance.noise
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def locate(look: Look) -> tuple[Tensor, Tensor]:
    """Return the coordinates of each pixel relative to the head.

    Args:
        look: the look of N faces.

    Returns:
        u and v as in `portrait`, each (N, SIZE, SIZE).
    """
    x, y = pixel_grid(SIZE, SIZE)
    x, y = x - look.shift_x[:, None, None], y - look.shift_y[:, None, None]
    cos, sin = (turn[:, None, None] / look.scale[:, None, None] for turn in (look.angle.cos(), look.angle.sin()))
    return x * cos + y * sin, y * cos - x * sin


def compress(image: Tensor) -> Tensor:
    """Compress and decompress faces as JPEG, as in the files of a data set; a change spreads to its 8×8 block.

    Args:
        image: uint8 (N, 3, H, W).

    Returns:
        uint8 (N, 3, H, W).
    """
    results = []
    for pixels in image.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", **JPEG)
        results.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2)


def redraw(seed: int, index: Tensor, attributes: Mapping[str, Tensor]) -> Tensor:
    """Paint images of a data set with given attributes, which yields true counterfactuals.

    Args:
        seed: seed of the data set.
        index: indices of the images, int64 (N,).
        attributes: as for `render`.

    Returns:
        uint8 (N, 3, SIZE, SIZE), before `compress`.
    """
    parts = torch.arange(len(index)).split(BATCH)
    images = [render(draw_nuisance(seed, index[i]), {k: v[i] for k, v in attributes.items()}) for i in parts]
    return torch.cat(images)
