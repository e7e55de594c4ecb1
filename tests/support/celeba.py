"""Faces without features in the published layout of CelebA."""

from pathlib import Path

import numpy as np
from PIL import Image

from dscm.data.celeba import ANNOTATION, IDENTITIES, IMAGES
from dscm.data.celeba_tables import PARTITION
from dscm.graphs import CELEBA_ATTRIBUTES

PARTS = [0, 2, 0, 1, 0, 0, 2, 0, 1]  # of the images
PEOPLE = [7, 9, 7, 4, 5, 5, 9, 7, 3]


def make_set(folder: Path, size: tuple[int, int] = (109, 89), places: tuple[str, str, str] = ("", "", "")) -> Path:
    """Write 9 faces in the published layout: face i has grey level 20 i, but white above and below the square."""
    anno, evaluation, img = (folder / place for place in places)
    for path in (anno, evaluation, img / IMAGES):
        path.mkdir(parents=True, exist_ok=True)
    height, width = size
    names = [f"{i + 1:06}.jpg" for i in range(len(PARTS))]
    rows = []
    for i, name in enumerate(names):
        pixels = np.full((height, width, 3), 255, np.uint8)
        top = 3 * (height - width) // 4
        pixels[top : top + width] = 20 * i
        Image.fromarray(pixels).save(img / IMAGES / name, quality=95)
        values = [2 * (i % 3 == 0) - 1 if known == "Smiling" else (-1) ** i for known in CELEBA_ATTRIBUTES]
        rows.append(f"{name} {' '.join(f'{value:2}' for value in values)}")
    (anno / ANNOTATION).write_text("\n".join([str(len(names)), " ".join(CELEBA_ATTRIBUTES) + " ", *rows]) + "\n")
    (evaluation / PARTITION).write_text("".join(f"{name} {part}\n" for name, part in zip(names, PARTS)))
    (anno / IDENTITIES).write_text("".join(f"{name} {person}\n" for name, person in zip(names, PEOPLE)))
    return folder
