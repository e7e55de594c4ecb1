"""The metrics of counterfactual soundness, one definition each (Monteiro et al. 2023; paper, A.1).

Every function returns one number per image, so that means, intervals and paired differences are the caller's.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dscm.data.morphomnist.dataset import measure_attributes
from dscm.data.scaling import to_levels, to_signed, to_unit
from dscm.causal.graph import Graph
from dscm.oracle import Oracle
from dscm.causal.scm import SCM, Intervention
from dscm.evaluation.statistics import f1_terms, mean_over
from dscm.causal.variables import Variable


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean absolute difference on [0, 1] of images in [-1, 1], shape (B, C, H, W); (B,)."""
    return (to_unit(x) - to_unit(y)).abs().mean(dim=(1, 2, 3))


def observe(x: Tensor, graph: Graph, oracle: Oracle) -> dict[str, Tensor]:
    """Read the attributes of a graph off images: measure what can be measured, ask the oracle for the rest.

    Args:
        x: images in [-1, 1], shape (B, C, H, W); they are rounded to 8 bits first, as a file would be.
        graph: whose attributes are wanted.
        oracle: predicts what cannot be measured.

    Returns:
        A tensor (B,) for each attribute, in raw units.
    """
    levels = to_levels(x)
    result = measure_attributes(levels, list(graph.measured))
    if graph.predicted:
        result |= oracle.predict(to_signed(levels))
    return {v.name: result[v.name] for v in graph.attributes}


def attribute_errors(variable: Variable, got: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Compare an attribute read off images with what it should be.

    Args:
        variable: the attribute.
        got, wanted: in raw units, shape (B,).

    Returns:
        ``mae`` in raw units and ``mape`` (a fraction; of slant it divides by almost zero) for a continuous
        variable, ``mae`` around the circle for a circular one, ``accuracy`` for a categorical or binary one; each
        (B,). A binary one also has ``f1``, the image's `f1_terms`, (B, 2).
    """
    if variable.discrete:
        accuracy = {"accuracy": (got == wanted).float()}
        return accuracy | ({"f1": f1_terms(got, wanted)} if variable.kind == "binary" else {})
    if variable.kind == "circular":
        return {"mae": ((got - wanted + 0.5) % 1 - 0.5).abs()}
    error = (got - wanted).abs()
    return {"mae": error, "mape": error / wanted.abs().clamp_min(1e-6)}


def compositions(
    scm: SCM, obs: Mapping[str, Tensor], first: Tensor, cycles: int, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` null interventions in a row: composition(k) for every k.

    Args:
        scm: the model; its image mechanism's guidance is that of the counterfactuals.
        obs: the observation, image in [-1, 1].
        first: the images after the first null intervention, which the caller has already made.
        cycles: k.
        generator: of the noise that an observation leaves open.
    """
    x = first
    yield x
    for _ in range(cycles - 1):
        x = scm.counterfactual({**obs, "image": x}, {}, generator)["image"]
        yield x


def reversals(
    scm: SCM,
    obs: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    do: Intervention,
    cycles: int,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` rounds of x → do → x* → do(back) → x': reversibility(k) for every k.

    Args:
        scm: the model.
        obs: the observation.
        first: the first counterfactual, which the caller has already made.
        do: the intervention.
        cycles: k.
        generator: of the noise that an observation leaves open.
    """
    back = {name: obs[name] for name in do}
    changed = dict(first)
    for k in range(cycles):
        restored = scm.counterfactual(changed, back, generator)
        yield restored["image"]
        if k < cycles - 1:
            changed = scm.counterfactual({**obs, "image": restored["image"]}, do, generator)


def effectiveness(
    graph: Graph, oracle: Oracle, counterfactual: Mapping[str, Tensor], obs: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Compare the attributes read off counterfactual images with the counterfactual parents.

    Args:
        graph: the causal graph.
        oracle: predicts what cannot be measured.
        counterfactual: a counterfactual with its image.
        obs: what was observed.

    Returns:
        For each attribute its errors, as `attribute_errors`. A binary one also has ``removed``: of the images that
        had it and should have it no more, the share in which it is not found, (B, 2) as `mean_over`.
    """
    got = observe(counterfactual["image"], graph, oracle)
    result = {v.name: attribute_errors(v, got[v.name], counterfactual[v.name]) for v in graph.attributes}
    for v in graph.attributes:
        if v.kind == "binary":
            gone = (obs[v.name] == 1) & (counterfactual[v.name] == 0)
            result[v.name]["removed"] = mean_over(got[v.name] == 0, gone)
    return result


def l1_by_place(x: Tensor, y: Tensor, place: Tensor, chosen: Tensor) -> dict[str, Tensor]:
    """Return the L1 of the images ``chosen`` inside and outside a place.

    Args:
        x, y: images in [-1, 1], shape (B, C, H, W).
        place: true inside, (B, 1, H, W).
        chosen: true for the images that count, (B,).

    Returns:
        ``inside_l1`` and ``outside_l1`` on [0, 1], (B, 2) as `mean_over`.
    """
    difference = (to_unit(x) - to_unit(y)).abs().mean(dim=1)  # (B, H, W)
    result = {}
    for name, mask in (("inside_l1", place[:, 0]), ("outside_l1", ~place[:, 0])):
        total = (difference * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)
        result[name] = mean_over(total, chosen)
    return result
