"""Small trained models and sample images that need no download.

The digits derive from MNIST (LeCun, Cortes and Burges); faces and mammograms are drawn by ``dscm.data.phantoms``, and
the people are nobody: the model of ``celeba`` drew them. The ``.json`` file beside each checkpoint holds the command,
data, seed and number of steps of its training.
"""

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.data.attributes import read_attribute_table
from dscm.data.images import read_image
from dscm.data.listing import find_images
from dscm.data.scaling import to_signed
from dscm.graphs import GRAPHS

FOLDER = Path(__file__).parent
DIGITS = FOLDER / "digits"
SAMPLES = {
    "morphomnist": DIGITS,
    "celebahq": FOLDER / "faces",
    "celeba": FOLDER / "people",
    "embed": FOLDER / "mammograms",
}
ImagePart = Literal["semantic", "spatial"]
AssetName = Literal["semantic", "spatial", "attributes", "oracle"]


def find(part: AssetName, graph: Graph = GRAPHS["morphomnist"]) -> Path | None:
    """Return the bundled checkpoint of a part of a model; None if there is none.

    Args:
        part: ``semantic`` or ``spatial`` for the image mechanism, ``attributes`` or ``oracle``.
        graph: the causal graph; an oracle serves every graph of its data set.
    """
    name = graph.data_set if part == "oracle" else graph.name
    path = FOLDER / f"{name}-{part}.pt"
    return path if path.exists() else None


def list_models() -> dict[str, Path]:
    """List the bundled image mechanisms by name: ``GRAPH-PART``, and ``GRAPH`` for the semantic one if there is one."""
    models: dict[str, Path] = {}
    for name, graph in GRAPHS.items():
        for part in get_args(ImagePart):
            path = find(part, graph)
            if path:
                models.setdefault(name, path)
                models[f"{name}-{part}"] = path
    return models


def read_observation(n: int = 64) -> dict[str, Tensor]:
    """Read the first ``n`` bundled digits: ``image`` in [-1, 1], (n, 1, 28, 28), and their attributes, each (n,)."""
    paths = find_images(DIGITS)
    names = [path.as_posix() for path in paths]
    attributes = read_attribute_table(DIGITS / "attributes.csv", names, GRAPHS["morphomnist"].attributes).values
    image = torch.stack([read_image(DIGITS / path, 28, 1) for path in paths[:n]])
    return {"image": to_signed(image), **{name: value[:n] for name, value in attributes.items()}}
