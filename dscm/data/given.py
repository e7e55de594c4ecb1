"""Attributes of images as their owner gives them: by variable, with labels for classes, within their domains."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from dscm.data.images import read_attributes
from dscm.errors import InputError
from dscm.causal.variables import Variable


def read_given(path: Path, images: Sequence[str], variables: Sequence[Variable]) -> dict[str, Tensor]:
    """Read the attributes of images from a CSV file.

    Args:
        path: the file, as `read_attributes` takes it.
        images: the images that it must describe, and no others.
        variables: the columns wanted; the cells of a categorical one are its labels.

    Returns:
        Each variable in the order of ``images``: float32 (N,) if it is real, or else int64 (N,).

    Raises:
        InputError: as `read_attributes`, or a value is outside its domain.
    """
    whole = [variable.name for variable in variables if variable.kind == "binary"]
    labels = {variable.name: variable.labels for variable in variables if variable.kind == "categorical"}
    values = read_attributes(path, images, [variable.name for variable in variables], whole, labels)
    for variable in variables:
        for image, value in zip(images, values[variable.name].tolist()):
            if variable.kind != "circular" and not variable.contains(value):
                raise InputError(f"{path}: {variable.name} of {image} is {value:g}; allowed: {variable.domain}")
    return values
