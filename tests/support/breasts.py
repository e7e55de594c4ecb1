"""Mammograms as films show them, made of an ellipse, a label and a bright edge of the film."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (160, 140)  # height and width
DEPTH, HALF = 80, 60  # of the ellipse
MARGIN = 12  # black columns beside the chest wall
WHITE = 240


def make_breast(seed: int, right: bool = False, dtype: type = np.uint8) -> np.ndarray:
    """Make half an ellipse of mottled tissue at a black margin, with a label and a strip that is brighter."""
    (height, width), rng = SIZE, np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = ((x - MARGIN) / DEPTH) ** 2 + ((y - height / 2) / HALF) ** 2 < 1
    image = np.where(inside & (x >= MARGIN), 100 + rng.integers(0, 20, SIZE), 0)
    image[5:20, -30:-15] = WHITE  # a label
    image[:, -6:] = WHITE  # and a strip
    scale = np.iinfo(dtype).max // 255
    return (image[:, ::-1] if right else image).astype(dtype) * dtype(scale)


def write_folder(folder: Path, women: int = 8, labels: bool = True) -> Path:
    """Write two views of each woman, left and right, with 8 or 16 bits, and a table of labels."""
    (folder / "views").mkdir(parents=True)
    rows = ["image,woman,tissue,malignant"]
    for i in range(2 * women):
        image = make_breast(i, bool(i % 2), (np.uint8, np.uint16)[i % 2])
        Image.fromarray(image).save(folder / "views" / f"b{i:02}.png")
        rows.append(f"views/b{i:02}.png,w{i // 2},{'FGD'[i // 2 % 3]},{int(i // 2 == 1)}")
    if labels:
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
