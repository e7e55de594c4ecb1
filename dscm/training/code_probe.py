"""The probe of a code: how well the parents of an image can be read from it, which an exogenous code does not allow."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.variables import Variable
from dscm.data.scaling import to_signed
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.training.readers import READERS, Target

CHUNK = 500  # images at a time
PROBED = 10_000  # images at most whose codes are read
FOLDS = 4  # a code is read by a reader that was fitted to the three quarters without it


@dataclass(frozen=True)
class Reading:
    """How well a parent is read from the codes of images that the reader was not fitted to.

    Args:
        measure: ``R²`` of a number, or of cosine and sine of an angle; ``accuracy`` of a class; ``AUC`` of a binary
            parent, the area under the ROC curve: where one value is rare, accuracy stays at chance while the code tells
            much.
        score: its value; NaN if undefined.
        error: its standard error over the images.
        chance: its value without a code: 0, the share of the most frequent class, or ½.
    """

    measure: str
    score: float
    error: float
    chance: float


@torch.no_grad()
def probe(mechanism: ImageMechanism[Any], data: Mapping[str, Tensor], seed: int = 0) -> dict[str, dict[str, Reading]]:
    """Probe how much the semantic code of a mechanism tells of each parent of the image: nothing, if it is exogenous.

    Args:
        mechanism: the mechanism of the image.
        data: a split that it was not trained on, images uint8; the first `PROBED` images count.
        seed: as for `probe_code`.

    Returns:
        As `probe_code`; empty if the mechanism has no semantic code.
    """
    if not isinstance(mechanism, DiffusionMechanism) or not mechanism.code_dim:
        return {}
    variables, device = mechanism.scaling.variables, mechanism.null.device
    images, parents = data["image"][:PROBED], {v.name: data[v.name][:PROBED].to(device) for v in variables}
    code = in_chunks(mechanism.encode, images.to(device), mechanism.scaling(parents))
    return probe_code(code, variables, parents, seed)


def name_readings(readings: Mapping[str, Mapping[str, Reading]]) -> dict[str, float]:
    """Name the score of every reader and parent, and beside every accuracy that without a code."""
    result: dict[str, float] = {}
    for reader, found in readings.items():
        for parent, reading in found.items():
            result[f"{reader} probe {parent} {reading.measure}"] = reading.score
    for parent, reading in next(iter(readings.values()), {}).items():
        if reading.measure == "accuracy":
            result[f"chance {parent} accuracy"] = reading.chance
    return result


@torch.no_grad()
def in_chunks(function: Callable[[Tensor, Tensor], Tensor], images: Tensor, pa: Tensor) -> Tensor:
    """Apply a function of images in [-1, 1] and encoded parents, (B, D), to uint8 images (N, C, H, W) by `CHUNK`."""
    return torch.cat([function(to_signed(x), p) for x, p in zip(images.split(CHUNK), pa.split(CHUNK))])


@torch.no_grad()
def probe_code(
    code: Tensor, variables: Sequence[Variable], parents: Mapping[str, Tensor], seed: int = 0
) -> dict[str, dict[str, Reading]]:
    """Read every parent from a code by each of `READERS`, and score it on codes that the reader was not fitted to.

    The codes are divided at random into `FOLDS` parts, and each part is read by a reader that was fitted to the others.

    Args:
        code: shape (N, code_dim).
        variables: the parents.
        parents: each (N,), in raw units.
        seed: of the division and of the readers.

    Returns:
        By reader and parent; undefined if there are fewer codes than `FOLDS`. What is found is a lower bound: another
        reader, or more codes, may find more.
    """
    code = code.double().cpu()  # where every device gets the same numbers
    targets = [Target.encode(variable, parents[variable.name].cpu()) for variable in variables]
    order = torch.randperm(len(code), generator=torch.Generator().manual_seed(seed))
    parts = order.tensor_split(FOLDS) if len(code) >= FOLDS else ()
    readings: dict[str, dict[str, Reading]] = {}
    for name, reader in READERS.items():
        generator = torch.Generator().manual_seed(seed)
        read = [torch.full_like(target.values, math.nan) for target in targets]
        for part in parts:
            rest = order[~torch.isin(order, part)]
            found = reader(code[rest], [target.take(rest) for target in targets], code[part], generator)
            for whole, some in zip(read, found):
                whole[part] = some
        readings[name] = {v.name: score_reading(target, whole) for v, target, whole in zip(variables, targets, read)}
    return readings


def score_reading(target: Target, read: Tensor) -> Reading:
    """Score what was read of every image, shaped as the values of the target; NaN if nothing was."""
    values, width = target.values, target.values.shape[1]
    measure = ("AUC" if width == 2 else "accuracy") if target.discrete else "R²"
    chance = {"R²": 0.0, "AUC": 0.5, "accuracy": values.mean(dim=0).max().item()}[measure]
    if not len(read) or read.isnan().any():
        return Reading(measure, math.nan, math.nan, chance)
    if measure == "AUC":
        return Reading(measure, *auc(read[:, 1] - read[:, 0], values[:, 1] == 1), chance)
    if measure == "accuracy":
        wrong = (read.argmax(dim=1) != values.argmax(dim=1)).double()
        return Reading(measure, *complement(wrong, torch.ones_like(wrong)), chance)
    error, spread = (read - values).square(), (values - values.mean(dim=0)).square()
    return Reading(measure, *complement(error.sum(dim=1), spread.sum(dim=1)), chance)


def complement(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Compute ``1 − Σa/Σb`` over N images, and its standard error to first order, ``√Σ(a − b·Σa/Σb)²/Σb``."""
    total = b.sum().item()
    if not total:
        return math.nan, math.nan
    ratio = a.sum().item() / total
    return 1 - ratio, (a - ratio * b).square().sum().sqrt().item() / total


def auc(score: Tensor, positive: Tensor) -> tuple[float, float]:
    """Compute the area under the ROC curve and its standard error.

    The area is the fraction of pairs of a positive and a negative in which the positive has the higher score; ties
    count half. The error is that of DeLong et al. 1988, from the variances of each image's own fraction.

    Args:
        score: (N,).
        positive: bool (N,).

    Returns:
        NaN if there are no positives or no negatives; the error is NaN too if there is one alone of either.
    """
    yes, no = score[positive].sort().values, score[~positive].sort().values
    if not len(yes) or not len(no):
        return math.nan, math.nan
    below = _rank(no, yes) / len(no)  # of each positive: the fraction of negatives below it
    above = 1 - _rank(yes, no) / len(yes)
    error = (below.var() / len(yes) + above.var() / len(no)).sqrt() if min(len(yes), len(no)) > 1 else math.nan
    return below.mean().item(), float(error)


def _rank(ordered: Tensor, values: Tensor) -> Tensor:
    """Count the entries of an ordered tensor below each value, those equal to it as half."""
    low, high = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (low + high).double() / 2
