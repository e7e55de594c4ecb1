"""What runs without any download: small trained models and sample images.

The digits derive from MNIST (LeCun, Cortes and Burges); faces and mammograms are drawn by ``dscm.data.phantoms``. Each
``.json`` tells the command, data, seed and steps that made the checkpoint beside it.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dscm.data.images import find_images, read_attributes, read_image
from dscm.data.scaling import to_signed
from dscm.causal.graph import Graph
from dscm.causal.graph_file import GRAPHS

FOLDER = Path(__file__).parent
DIGITS = FOLDER / "digits"
SAMPLES = {"morphomnist": DIGITS, "celebahq": FOLDER / "faces", "embed": FOLDER / "mammograms"}
Part = Literal["semantic", "spatial", "attributes", "oracle"]


def find(part: Part, graph: Graph = GRAPHS["morphomnist"]) -> Path | None:
    """Return the bundled checkpoint of a part of a model; None where none is bundled.

    Args:
        part: ``semantic`` or ``spatial``, the image's mechanism; ``attributes`` or ``oracle``.
        graph: the causal graph; an oracle serves every graph of its data set.
    """
    name = graph.data_set if part == "oracle" else graph.name
    path = FOLDER / f"{name}-{part}.pt"
    return path if path.exists() else None


def read_observation(n: int = 64) -> dict[str, Tensor]:
    """Read the first ``n`` bundled digits: ``image`` in [-1, 1], (n, 1, 28, 28), and their attributes, each (n,)."""
    paths = find_images(DIGITS)
    names = ["thickness", "intensity", "digit", "slant"]
    given = read_attributes(DIGITS / "attributes.csv", [path.as_posix() for path in paths], names, ["digit"])
    image = torch.stack([read_image(DIGITS / path, 28, 1) for path in paths[:n]])
    return {"image": to_signed(image), **{name: value[:n] for name, value in given.items()}}
