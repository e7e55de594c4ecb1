"""The metrics of counterfactual soundness, one definition each (Monteiro et al. 2023; paper, A.1).

Every function returns one number per image; means, intervals and paired differences are in `statistics`.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.scm import Intervention
from dscm.causal.variables import Variable
from dscm.data.scaling import to_levels, to_signed, to_unit
from dscm.evaluation.statistics import CHANGED, f1_terms, mean_over

Values = Mapping[str, Tensor]  # every variable, each (B,), and the image in [-1, 1], (B, C, H, W)
Save = Callable[[Tensor], Tensor]  # what happens to an image in [-1, 1] between two queries


def keep(image: Tensor) -> Tensor:
    """Keep an image as it was computed."""
    return image


def to_8_bits(image: Tensor) -> Tensor:
    """Return an image as it is after it was saved: clamped to [-1, 1] and rounded to 256 levels."""
    return to_signed(to_levels(image))


def attribute_errors(variable: Variable, observed: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Compare an attribute of images with its target.

    Args:
        variable: the attribute.
        observed, target: in raw units, shape (B,).

    Returns:
        ``mae`` in raw units and ``mape`` (a fraction; of slant it divides by almost zero) for a continuous
        variable, ``mae`` around the circle for a circular one, ``accuracy`` for a categorical or binary one; each
        (B,). A binary one also has ``f1``, the `f1_terms` of each image, (B, 2).
    """
    if variable.discrete:
        accuracy = {"accuracy": (observed == target).float()}
        return accuracy | ({"f1": f1_terms(observed, target)} if variable.kind == "binary" else {})
    if variable.kind == "circular":
        return {"mae": ((observed - target + 0.5) % 1 - 0.5).abs()}
    error = (observed - target).abs()
    return {"mae": error, "mape": error / target.abs().clamp_min(1e-6)}


def compositions(
    compose: Callable[[Values], Tensor], obs: Values, first: Tensor, cycles: int, save: Save = keep
) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` null interventions in a row: composition(k) for every k.

    Args:
        compose: returns the images of an observation after a null intervention.
        obs: the observation, image in [-1, 1].
        first: the images after the first null intervention.
        cycles: the largest k.
        save: maps every image that is computed to what is measured and asked next.
    """
    x = save(first)
    yield x
    for _ in range(cycles - 1):
        x = save(compose({**obs, "image": x}))
        yield x


def reversals(
    counterfactual: Callable[[Values, Intervention], Values],
    obs: Values,
    first: Values,
    do: Mapping[str, Tensor],
    cycles: int,
    save: Save = keep,
) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` rounds of x → do → x* → do(back) → x': reversibility(k) for every k.

    Args:
        counterfactual: returns every variable of an observation under an intervention.
        obs: the observation.
        first: the first counterfactual.
        do: the intervention.
        cycles: the largest k.
        save: as in `compositions`.
    """
    back = {name: obs[name] for name in do}
    changed = dict(first)
    for k in range(cycles):
        x = save(counterfactual({**changed, "image": save(changed["image"])}, back)["image"])
        yield x
        if k < cycles - 1:
            changed = dict(counterfactual({**obs, "image": x}, do))


def effectiveness(
    graph: Graph,
    observed: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    obs: Mapping[str, Tensor],
    changed: Tensor,
) -> dict[str, dict[str, Tensor]]:
    """Compare the attributes that are measured or predicted on images with those that they should have.

    Args:
        graph: the causal graph.
        observed: every attribute as it is read off the images, (B,), by `dscm.oracle.observe`.
        values: every attribute as it should be, such as the counterfactual parents.
        obs: the observation.
        changed: the images whose value the intervention changes, bool (B,).

    Returns:
        For each attribute its `attribute_errors`, over all images and, with the prefix `CHANGED`, over those changed.
        A binary one also has ``added`` and ``removed``, the fractions of the additions that the oracle detects and of
        the removals that it no longer does, and ``balanced``, their mean; as `mean_over`.
    """
    result = {}
    for v in graph.attributes:
        errors = attribute_errors(v, observed[v.name], values[v.name])
        errors |= {CHANGED + name: _over(error, changed) for name, error in errors.items()}
        if v.kind == "binary":
            errors |= _switches(observed[v.name], obs[v.name], values[v.name])
        result[v.name] = errors
    return result


def kept(
    graph: Graph,
    observed: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    obs: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Tell of the classes that should stay whether they are read off images as they were before.

    Whether a reading is right does not matter here, only that an intervention does not change it.

    Args:
        graph: the causal graph.
        observed, before: every attribute as it is read off the counterfactuals, and off the observations.
        values, obs: as in `effectiveness`.

    Returns:
        By attribute, as `mean_over` the images whose value does not change.
    """
    names = [v.name for v in graph.attributes if v.discrete]
    return {name: mean_over(observed[name] == before[name], values[name] == obs[name]) for name in names}


def _over(errors: Tensor, chosen: Tensor) -> Tensor:
    """Restrict errors (B,), or terms of ratios (B, 2), to the images ``chosen``, (B,)."""
    return errors * chosen[:, None] if errors.dim() > 1 else mean_over(errors, chosen)


def _switches(observed: Tensor, before: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Count the additions and removals of a binary attribute that succeeded; all arguments (B,)."""
    added = mean_over(observed == 1, (before == 0) & (target == 1))
    removed = mean_over(observed == 0, (before == 1) & (target == 0))
    return {"added": added, "removed": removed, "balanced": torch.cat([added, removed], dim=1)}


def l1_by_place(x: Tensor, y: Tensor, place: Tensor, chosen: Tensor) -> dict[str, Tensor]:
    """Return the L1 of the images ``chosen`` inside and outside a region.

    Args:
        x, y: images in [-1, 1], shape (B, C, H, W).
        place: the region, bool (B, 1, H, W).
        chosen: the images that count, bool (B,).

    Returns:
        ``inside_l1`` and ``outside_l1`` on [0, 1], (B, 2) as `mean_over`.
    """
    difference = (to_unit(x) - to_unit(y)).abs().mean(dim=1)  # (B, H, W)
    result = {}
    for name, mask in (("inside_l1", place[:, 0]), ("outside_l1", ~place[:, 0])):
        total = (difference * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)
        result[name] = mean_over(total, chosen)
    return result
