"""What runs without any download: small trained models and 64 test digits.

The digits derive from MNIST (LeCun, Cortes and Burges). Each ``.json`` tells the command, data, seed and steps
that made the checkpoint beside it.
"""

from pathlib import Path

import torch
from torch import Tensor

from dscm.data.folder import find_images, read_attributes, read_image
from dscm.data.scaling import to_signed

FOLDER = Path(__file__).parent
DIGITS = FOLDER / "digits"
ORACLE = FOLDER / "morphomnist-oracle.pt"
CHECKPOINTS = {
    "semantic": FOLDER / "morphomnist-semantic.pt",
    "spatial": FOLDER / "morphomnist-spatial.pt",
}


def read_observation(n: int = 64) -> dict[str, Tensor]:
    """Read the first ``n`` bundled digits: ``image`` in [-1, 1], (n, 1, 28, 28), and their attributes, each (n,)."""
    paths = find_images(DIGITS)
    names = ["thickness", "intensity", "digit", "slant"]
    given = read_attributes(DIGITS / "attributes.csv", [path.as_posix() for path in paths], names, ["digit"])
    image = torch.stack([read_image(DIGITS / path, 28, 1) for path in paths[:n]])
    return {"image": to_signed(image), **{name: value[:n] for name, value in given.items()}}
