"""The metrics of counterfactual soundness, one definition each (Monteiro et al. 2023; paper, A.1).

Every function returns one number per image; means, intervals and paired differences are in `statistics`.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.graph import Graph
from dscm.causal.scm import SCM, Intervention
from dscm.causal.variables import Variable
from dscm.data.scaling import to_unit
from dscm.evaluation.statistics import f1_terms, mean_over
from dscm.oracle import Oracle, observe


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
    scm: SCM, obs: Mapping[str, Tensor], first: Tensor, cycles: int, generator: Source | None = None
) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` null interventions in a row: composition(k) for every k.

    Args:
        scm: the model; its image mechanism is guided as for the counterfactuals.
        obs: the observation, image in [-1, 1].
        first: the images after the first null intervention.
        cycles: the largest k.
        generator: source of noise that an observation leaves undetermined.
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
    generator: Source | None = None,
) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` rounds of x → do → x* → do(back) → x': reversibility(k) for every k.

    Args:
        scm: the model.
        obs: the observation.
        first: the first counterfactual.
        do: the intervention.
        cycles: the largest k.
        generator: source of noise that an observation leaves undetermined.
    """
    back = {name: obs[name] for name in do}
    changed = dict(first)
    for k in range(cycles):
        restored = scm.counterfactual(changed, back, generator)
        yield restored["image"]
        if k < cycles - 1:
            changed = scm.counterfactual({**obs, "image": restored["image"]}, do, generator)


def effectiveness(
    graph: Graph, oracle: Oracle | None, counterfactual: Mapping[str, Tensor], obs: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Compare the attributes of counterfactual images with the counterfactual parents.

    Args:
        graph: the causal graph.
        oracle: as in `observe`.
        counterfactual: every variable under the intervention.
        obs: the observation.

    Returns:
        For each attribute its `attribute_errors`. A binary one also has ``removed``, the fraction of removals that the
        oracle no longer detects, (B, 2) as `mean_over`.
    """
    observed = observe(counterfactual["image"], graph, oracle)
    result = {v.name: attribute_errors(v, observed[v.name], counterfactual[v.name]) for v in graph.attributes}
    for v in graph.attributes:
        if v.kind == "binary":
            removal = (obs[v.name] == 1) & (counterfactual[v.name] == 0)
            result[v.name]["removed"] = mean_over(observed[v.name] == 0, removal)
    return result


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
