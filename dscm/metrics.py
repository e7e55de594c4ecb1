"""The metrics of counterfactual soundness, one definition each (Monteiro et al. 2023; paper, A.1).

Every function returns one number per image, so that means, intervals and paired differences are the caller's.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from dscm.data.morphomnist import MORPHED, measure_attributes, redraw
from dscm.data.scaling import to_levels, to_signed, to_unit
from dscm.graphs import Graph, Variable
from dscm.oracles import DigitOracle
from dscm.scm import SCM, Intervention


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean absolute difference on [0, 1] of images in [-1, 1], shape (B, C, H, W); (B,)."""
    return (to_unit(x) - to_unit(y)).abs().mean(dim=(1, 2, 3))


def observe(x: Tensor, graph: Graph, oracle: DigitOracle) -> dict[str, Tensor]:
    """Read the attributes of a graph off images: measure what can be measured, ask the oracle for the digit.

    Args:
        x: images in [-1, 1], shape (B, C, H, W); they are rounded to 8 bits first, as a file would be.
        graph: whose attributes are wanted.
        oracle: the digit classifier.

    Returns:
        A tensor (B,) for each attribute, in raw units.
    """
    levels = to_levels(x)
    result = measure_attributes(levels, [v.name for v in graph.attributes if v.kind != "categorical"])
    if any(v.name == "digit" for v in graph.attributes):
        result["digit"] = oracle.predict(to_signed(levels))
    return {v.name: result[v.name] for v in graph.attributes}


def attribute_errors(variable: Variable, got: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Compare an attribute read off images with what it should be.

    Args:
        variable: the attribute.
        got, wanted: in raw units, shape (B,).

    Returns:
        ``mae`` in raw units and ``mape`` (a fraction; of slant it divides by almost zero) for a continuous
        variable, ``mae`` around the circle for a circular one, ``accuracy`` for a categorical one; each (B,).
    """
    if variable.kind == "categorical":
        return {"accuracy": (got == wanted).float()}
    if variable.kind == "circular":
        return {"mae": ((got - wanted + 0.5) % 1 - 0.5).abs()}
    error = (got - wanted).abs()
    return {"mae": error, "mape": error / wanted.abs().clamp_min(1e-6)}


def compositions(scm: SCM, obs: Mapping[str, Tensor], first: Tensor, cycles: int) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` null interventions in a row: composition(k) for every k.

    Args:
        scm: the model; its image mechanism's guidance is that of the counterfactuals.
        obs: the observation, image in [-1, 1].
        first: the images after the first null intervention, which the caller has already made.
        cycles: k.
    """
    x = first
    yield x
    for _ in range(cycles - 1):
        x = scm.counterfactual({**obs, "image": x}, {})["image"]
        yield x


def reversals(
    scm: SCM, obs: Mapping[str, Tensor], first: Mapping[str, Tensor], do: Intervention, cycles: int
) -> Iterator[Tensor]:
    """Yield the images after each of ``cycles`` rounds of x → do → x* → do(back) → x': reversibility(k) for every k.

    Args:
        scm: the model.
        obs: the observation.
        first: the first counterfactual, which the caller has already made.
        do: the intervention.
        cycles: k.
    """
    back = {name: obs[name] for name in do}
    changed = dict(first)
    for k in range(cycles):
        restored = scm.counterfactual(changed, back)
        yield restored["image"]
        if k < cycles - 1:
            changed = scm.counterfactual({**obs, "image": restored["image"]}, do)


def effectiveness(
    graph: Graph, oracle: DigitOracle, counterfactual: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Compare the attributes read off counterfactual images with the counterfactual parents.

    Args:
        graph: the causal graph.
        oracle: the digit classifier.
        counterfactual: a counterfactual with its image.

    Returns:
        For each attribute its errors, as `attribute_errors`.
    """
    got = observe(counterfactual["image"], graph, oracle)
    return {v.name: attribute_errors(v, got[v.name], counterfactual[v.name]) for v in graph.attributes}


def true_counterfactual(base: Tensor, counterfactual: Mapping[str, Tensor]) -> Tensor:
    """Draw the image, uint8, that the generator makes of the same drawing with the counterfactual attributes.

    Args:
        base: the drawings, uint8 (B, 1, H, W).
        counterfactual: attributes (B,).
    """
    drawn = {name: value for name, value in counterfactual.items() if name in (*MORPHED, "hue")}
    return redraw(base, drawn)


def has_truth(graph: Graph, name: str) -> bool:
    """Tell whether the generator knows the true image under an intervention on the variable ``name``.

    It redraws one hand's drawing; another digit, and all that follows from it, it cannot draw.
    """
    return name in (*MORPHED, "hue") and name in graph.image_parents
