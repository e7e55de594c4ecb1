"""Drawn mammograms with the attributes of EMBED: the same breast with other attributes is its true counterfactual."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dscm.data.phantoms.breast import Anatomy, Texture, marker_extent, paint_breast
from dscm.data.phantoms.canvas import Canvas, pixel_grid
from dscm.data.phantoms.seeds import draw_normal, draw_uniform, draw_unit, make_generators

HEIGHT, WIDTH = 256, 192  # pixels
BATCH = 8  # images painted together: what fits the cache of a CPU
PATIENT_OF = (0, 1, 1, 2, 2, 2, 3, 3, 3, 3)  # of each ten images in a row: of four patients, with one to four images
MARKERS = ("circle marker", "triangle marker")
SHARES = {  # P(value), from 0 upwards; every attribute is a root
    "circle marker": (0.75, 0.25),
    "triangle marker": (0.75, 0.25),
    "cancer": (0.9, 0.1),
    "density": (0.1, 0.4, 0.4, 0.1),
}
PATIENT_RANGES = {  # of each number of an `Anatomy` that a patient's images share, uniformly
    "depth": (0.7, 1.25),
    "half_height": (0.65, 0.92),
    "droop": (0.0, 0.22),
}
IMAGE_RANGES = {
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
    "swap": (-1.0, 1.0),  # less than 0: the triangle lies above the circle
    "circle_x": (0.18, 0.65),
    "circle_y": (-0.55, -0.12),
    "circle_radius": (0.035, 0.062),
    "circle_opacity": (0.7, 1.0),
    "circle_filled": (-1.0, 0.5),
    "triangle_x": (0.18, 0.65),
    "triangle_y": (0.12, 0.55),
    "triangle_radius": (0.045, 0.075),
    "triangle_opacity": (0.7, 1.0),
    "triangle_turn": (0.0, 6.28),
    "marker_level": (0.88, 1.0),
    "mirrored": (-1.0, 1.0),
}
GLAND_GRIDS = (4, 8, 16, 32, 64)  # heights of the grids of a `Texture`
STRAND_GRIDS = (16, 32)
GRAIN = 0.012  # standard deviation of the detector's noise, of full scale
LEVELS = 4096  # of a detector of 12 bits, spread over the 16 bits of the file


class Nuisance(NamedTuple):
    """Hold what a mammogram depends on besides its attributes; its noise is (N, HEIGHT, WIDTH)."""

    anatomy: Anatomy
    texture: Texture
    noise: Tensor


def patient_of(index: Tensor) -> Tensor:
    """Return the patient of each image, int64 (N,); a patient has one to four images in a row."""
    return 4 * (index // len(PATIENT_OF)) + torch.tensor(PATIENT_OF)[index % len(PATIENT_OF)]


def draw_attributes(seed: int, index: Tensor) -> dict[str, Tensor]:
    """Draw the attributes of images from `SHARES`.

    Args:
        seed: of the set.
        index: of the images, int64 (N,).

    Returns:
        0 or 1, density from 0 to 3, int64 (N,), by name.
    """
    draws = draw_unit(make_generators(seed, index, stream=0), SHARES)
    return {
        name: torch.bucketize(draw, torch.tensor(SHARES[name][:-1], dtype=draw.dtype).cumsum(0), right=True)
        for name, draw in draws.items()
    }


def draw_nuisance(seed: int, index: Tensor) -> Nuisance:
    """Draw what the images depend on besides their attributes; images of one patient share the breast's shape.

    Args:
        seed: of the set.
        index: of the images, int64 (N,).
    """
    shape = draw_uniform(make_generators(seed, patient_of(index), stream=2), PATIENT_RANGES)
    generators = make_generators(seed, index, stream=1)
    numbers = shape | draw_uniform(generators, IMAGE_RANGES)
    numbers["depth"] = numbers["depth"] * numbers.pop("compression")
    side = torch.where(numbers.pop("swap") < 0, -1.0, 1.0)
    numbers |= {name: side * numbers[name] for name in ("circle_y", "triangle_y")}
    gland, strands = (
        [draw_normal(generators, height, height * WIDTH // HEIGHT) for height in heights]
        for heights in (GLAND_GRIDS, STRAND_GRIDS)
    )
    return Nuisance(Anatomy(**numbers), Texture(gland, strands), GRAIN * draw_normal(generators, HEIGHT, WIDTH))


def render(nuisance: Nuisance, attributes: Mapping[str, Tensor]) -> np.ndarray:
    """Paint mammograms; a marker or a cancer changes its own place in an image and no other pixel.

    Args:
        nuisance: of N images.
        attributes: shape (N,), for every name in `SHARES`: 0 or 1, density from 0 to 3; others are ignored.

    Returns:
        uint16 (N, HEIGHT, WIDTH): an array, since PyTorch before 2.3 has no such tensors.
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
    """Return where in the rendered image a marker is, whether or not the attributes show it.

    Args:
        nuisance: of N images.
        name: ``circle marker`` or ``triangle marker``.

    Returns:
        int64 (N, 4): the first row, the first column, and the row and the column after the last.
    """
    anatomy, pixel = nuisance.anatomy, 2 / HEIGHT
    left, right, top, bottom = (edge / pixel for edge in marker_extent(anatomy, name.removesuffix(" marker"), pixel))
    mirrored = anatomy.mirrored > 0
    left, right = torch.where(mirrored, WIDTH - right, left), torch.where(mirrored, WIDTH - left, right)
    top, bottom = top + HEIGHT / 2, bottom + HEIGHT / 2
    box = torch.stack([top.floor(), left.floor(), bottom.ceil(), right.ceil()], dim=1).long()
    return box.clamp_min(0).minimum(torch.tensor([HEIGHT, WIDTH, HEIGHT, WIDTH]))


def redraw(seed: int, index: Tensor, attributes: Mapping[str, Tensor]) -> np.ndarray:
    """Paint images of a set with the attributes given: the truth, or with others than the set's the counterfactual.

    Args:
        seed: of the set.
        index: of the images, int64 (N,).
        attributes: as `render` takes them.

    Returns:
        uint16 (N, HEIGHT, WIDTH).
    """
    parts = torch.arange(len(index)).split(BATCH)
    images = [render(draw_nuisance(seed, index[i]), {k: v[i] for k, v in attributes.items()}) for i in parts]
    return np.concatenate(images)
