"""Images that a trained model is measured on after its training."""

from dataclasses import replace

from torch import Tensor

from dscm.data.sets import Source, Split, get_data_set
from dscm.errors import EmptySplit
from dscm.model import Model


def read_held_out(model: Model, source: Source) -> tuple[Split, dict[str, Tensor]]:
    """Read the images for validation, or for testing where there are none, as the training of a model read its own.

    Args:
        model: the model.
        source: the place of the data set.

    Returns:
        The name of the split, and its images, uint8 (N, C, H, W), and attributes, (N,), on the CPU.

    Raises:
        InputError: the data are missing.
    """
    mixture = model.checkpoint.settings.get("mixture", True)
    data_set = get_data_set(model.graph, replace(source, framing=model.framing, mixture=mixture))
    size = model.mechanism.shape[-1]
    try:
        return "valid", data_set.load("valid", size)
    except EmptySplit:
        return "test", data_set.load("test", size)
