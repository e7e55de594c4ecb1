"""Synthetic mammograms with attributes of EMBED; one redrawn with other attributes is its true counterfactual."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dscm.data.phantoms import markers
from dscm.data.phantoms.breast import Anatomy, Texture, paint_breast, place_markers
from dscm.data.phantoms.canvas import Canvas, pixel_grid
from dscm.data.phantoms.seeds import draw_normal, draw_uniform, draw_unit, make_generators

HEIGHT, WIDTH = 256, 192  # pixels
BATCH = 8  # images painted together; as many as fit the cache of a CPU
FIRST_PATIENT = 10_000_000  # so that every patient number has eight digits
PATIENT_OF = (0, 1, 1, 2, 2, 2, 3, 3, 3, 3)  # patients of every ten consecutive images
MARKERS = ("circle marker", "triangle marker")
COMBINATIONS = 2 ** len(MARKERS)
SHARES = {  # probability of each value from 0 upwards; every attribute is a root
    "circle marker": (0.75, 0.25),
    "triangle marker": (0.75, 0.25),
    "cancer": (0.9, 0.1),
    "density": (0.1, 0.4, 0.4, 0.1),
}
PATIENT_RANGES = {  # ranges of the numbers of an `Anatomy` that are shared by a patient's images, uniform
    "depth": (0.7, 1.25),
    "half_height": (0.65, 0.92),
    "droop": (0.0, 0.22),
}
IMAGE_RANGES = {  # ranges of the other numbers, uniform
    "compression": (0.94, 1.06),  # factor of the patient's depth
    "middle": (-0.12, 0.06),
    "pectoral": (-0.5, 0.5),
    "pectoral_slope": (0.3, 0.5),
    "exposure": (0.85, 1.1),
    "mass_x": (0.2, 0.65),
    "mass_y": (-0.5, 0.5),
    "mass_radius": (0.07, 0.11),
    "mass_turn": (0.0, 6.28),
    "mass_opacity": (0.6, 0.85),
    **markers.RANGES,
    "mirrored": (-1.0, 1.0),
}
GLAND_GRIDS = (4, 8, 16, 32, 64)  # heights of the grids of a `Texture`
STRAND_GRIDS = (16, 32)
GRAIN = 0.012  # standard deviation of the detector noise as a fraction of full scale
LEVELS = 4096  # levels of the 12-bit detector, spread over the 16 bits of the file


class Nuisance(NamedTuple):
    """Everything in a mammogram besides its attributes; the noise is (N, HEIGHT, WIDTH)."""

    anatomy: Anatomy
    texture: Texture
    noise: Tensor


def patient_of(index: Tensor) -> Tensor:
    """Return the patient of each image, int64 (N,); a patient has one to four consecutive images."""
    return 4 * (index // len(PATIENT_OF)) + torch.tensor(PATIENT_OF)[index % len(PATIENT_OF)]


def number_patients(index: Tensor) -> list[str]:
    """Return the number of the patient of each image, int64 (N,), as EMBED's tables have it."""
    return [str(FIRST_PATIENT + patient) for patient in patient_of(index).tolist()]


def draw_attributes(seed: int, index: Tensor, versions: int = 1) -> dict[str, Tensor]:
    """Sample the attributes of images from `SHARES`; versions of one mammogram differ in their markers alone.

    Args:
        seed: seed of the data set.
        index: indices of the images, int64 (N,).
        versions: how many consecutive images are of one mammogram; of more than one see `draw_markers`.

    Returns:
        Each attribute by name, 0 or 1, density 0 to 3, int64 (N,).
    """
    first = index - index % versions
    draws = draw_unit(make_generators(seed, first, stream=0), SHARES)
    attributes = {
        name: torch.bucketize(draw, torch.tensor(SHARES[name][:-1], dtype=draw.dtype).cumsum(0), right=True)
        for name, draw in draws.items()
    }
    return attributes if versions == 1 else attributes | draw_markers(seed, first, index)


def draw_markers(seed: int, first: Tensor, index: Tensor) -> dict[str, Tensor]:
    """Give the versions of a mammogram every combination of markers in turn, from one on that is drawn.

    So each has its true counterfactuals among the others, and one that bears both markers is as usual as one without.

    Args:
        seed: seed of the data set.
        first: of each image, the index of the first version, int64 (N,).
        index: indices of the images, int64 (N,).

    Returns:
        Each marker by name, 0 or 1, int64 (N,).
    """
    start = [int(generator.integers(COMBINATIONS)) for generator in make_generators(seed, first, stream=4)]
    turn = (index - first + torch.tensor(start, dtype=torch.int64)) % COMBINATIONS
    return {name: turn >> bit & 1 for bit, name in enumerate(MARKERS)}


def draw_nuisance(seed: int, index: Tensor) -> Nuisance:
    """Sample everything in the images besides their attributes; images of a patient share the breast's shape.

    Args:
        seed: seed of the data set.
        index: indices of the images, int64 (N,).

    Returns:
        The nuisance of N images.
    """
    shape = draw_uniform(make_generators(seed, patient_of(index), stream=2), PATIENT_RANGES)
    generators = make_generators(seed, index, stream=1)
    numbers = shape | draw_uniform(generators, IMAGE_RANGES)
    numbers["depth"] = numbers["depth"] * numbers.pop("compression")
    numbers = markers.swap_markers(numbers)
    gland, strands = (
        [draw_normal(generators, height, height * WIDTH // HEIGHT) for height in heights]
        for heights in (GLAND_GRIDS, STRAND_GRIDS)
    )
    return Nuisance(Anatomy(**numbers), Texture(gland, strands), GRAIN * draw_normal(generators, HEIGHT, WIDTH))


def render(nuisance: Nuisance, attributes: Mapping[str, Tensor]) -> np.ndarray:
    """Paint mammograms; a marker or a cancer changes only the pixels of its own region.

    Args:
        nuisance: the nuisance of N images.
        attributes: each (N,), for every name in `SHARES`: 0 or 1, density 0 to 3; others are ignored.

    Returns:
        uint16 (N, HEIGHT, WIDTH), an array because PyTorch before 2.3 has no uint16.
    """
    anatomy = Anatomy(*(field[:, None, None] for field in nuisance.anatomy))  # broadcasts with images
    x, y = pixel_grid(HEIGHT, WIDTH)
    image = torch.zeros(len(nuisance.noise), 1, HEIGHT, WIDTH)
    canvas = Canvas(image, x + WIDTH / HEIGHT, y, 2 / HEIGHT)
    paint_breast(canvas, anatomy, nuisance.texture, {name: attributes[name][:, None, None] for name in SHARES})
    bright = image[:, 0] * anatomy.exposure
    bright = torch.where(bright > 0, bright + nuisance.noise, bright)  # the background is black
    values = (bright.clamp(0, 1) * (LEVELS - 1)).round().numpy().astype(np.uint16) * np.uint16(65536 // LEVELS)
    return np.where(anatomy.mirrored.numpy() > 0, values[:, :, ::-1], values)


def marker_box(nuisance: Nuisance, name: str) -> Tensor:
    """Return the bounding box of a marker in the rendered images, whether or not it is present.

    Args:
        nuisance: the nuisance of N images.
        name: ``circle marker`` or ``triangle marker``.

    Returns:
        int64 (N, 4): the first row and column, then the row and column after the last.
    """
    mirrored = nuisance.anatomy.mirrored > 0
    return markers.marker_box(place_markers(nuisance.anatomy), name, HEIGHT, WIDTH, mirrored)


def redraw(seed: int, index: Tensor, attributes: Mapping[str, Tensor]) -> np.ndarray:
    """Paint images of a data set with given attributes, which yields true counterfactuals.

    Args:
        seed: seed of the data set.
        index: indices of the images, int64 (N,).
        attributes: as for `render`.

    Returns:
        uint16 (N, HEIGHT, WIDTH).
    """
    parts = torch.arange(len(index)).split(BATCH)
    images = [render(draw_nuisance(seed, index[i]), {k: v[i] for k, v in attributes.items()}) for i in parts]
    return np.concatenate(images)
