"""Questions about populations, for Python: samples given observed data, and average effects with intervals."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dscm.causal import effects
from dscm.causal.draws import make_streams
from dscm.causal.mechanisms import Noise
from dscm.causal.scm import SCM
from dscm.causal.values import Do, find_failures, find_outside, refuse
from dscm.causal.variables import Variable
from dscm.data.scaling import to_levels
from dscm.errors import InputError
from dscm.evaluation.statistics import bootstrap_interval
from dscm.folder.answer import read_intervention, read_signed, take
from dscm.machine import USUAL
from dscm.model import Model
from dscm.oracle import observe
from dscm.settings import check_integer

MEASURED = "measured_"  # before the name of an attribute: as read off the image, in the table of answers too
Target = str | Callable[[Tensor], Tensor]


class Estimate(NamedTuple):
    """A mean over individuals, and the lower and upper end of its 95% bootstrap interval; all of one shape."""

    mean: Tensor
    low: Tensor
    high: Tensor


@torch.no_grad()
def interventional_samples(model: Model, obs: Mapping[str, Tensor], do: Do, seed: int = 0) -> dict[str, Tensor]:
    """Draw from the interventional distribution, given the observed values that ``do`` does not reach.

    What lies downstream of the intervention, the image among it, is drawn anew, not abducted.

    Args:
        model: the model.
        obs: an observation of B images, from `Model.observe` or `Model.sample`.
        do: as `Model.predict` takes it.
        seed: the seed of the new noise.

    Returns:
        Every variable, (B,), and ``image`` uint8, (B, C, H, W).

    Raises:
        InputError: a variable is unknown, or a value outside its domain.

    Source: as `dscm.causal.effects.interventional_samples`.
    """
    signed = read_signed(model.graph, model.mechanism.shape, obs, model.device)
    change = read_intervention(model.graph, do, model.device, signed)
    streams = make_streams(seed, range(len(signed["image"])), model.device)
    values = effects.interventional_samples(model.scm, signed, change, streams)
    refuse(find_failures(model.graph.attributes, values))
    return values | {"image": to_levels(values["image"])}


@torch.no_grad()
def average_causal_effect(
    model: Model,
    target: Target,
    do: Do,
    reference: Do = {},
    obs: Mapping[str, Tensor] | None = None,
    n: int | None = None,
    seed: int = 0,
    batch: int = USUAL,
) -> Estimate:
    """Estimate ``E[Y | do] − E[Y | reference]``, with a bootstrap interval over individuals.

    Each individual has the same noise under both interventions: abducted from an observation, or drawn. The interval
    covers the choice of individuals, not what is wrong with the model. (dowhy.gcm draws new noise for either side.)

    Args:
        model: the model.
        target: Y: an attribute; ``measured_`` and an attribute, as morphometry or the oracle reads it off the image;
            ``image``, in grey levels; or a function of images, uint8 (B, C, H, W), that returns numbers (B, …).
        do, reference: as `Model.predict` takes them; no reference is no intervention.
        obs: an observation of N images, from `Model.observe` or `Model.sample`.
        n: draw so many individuals from the model instead.
        seed: the seed of noise that is drawn, and of the bootstrap.
        batch: individuals at a time.

    Returns:
        In the unit of Y, of its shape: () for an attribute, a probability if that is binary; (K,) for one of K classes,
        the change of each one's probability; around the circle for a circular one.

    Raises:
        InputError: both or none of ``obs`` and ``n`` are given, a variable is unknown, or a value outside its domain.

    Source: the estimand is that of ``dowhy.gcm.average_causal_effect``; interval: `bootstrap_interval`.
    """
    if (obs is None) == (n is None):
        raise InputError("average_causal_effect: takes either obs, an observation, or n, how many to draw")
    variable, attributes = _find_variable(model, target), {v.name for v in model.graph.attributes}
    scm = model.graph.scm(None, model.learned).to(model.device) if target in attributes else model.scm
    signed = None if obs is None else read_signed(model.graph, model.mechanism.shape, obs, model.device)
    sides = [read_intervention(model.graph, side, model.device, signed) for side in (do, reference)]
    number = check_integer("n", n, 1) if n is not None else len((signed or {})["image"])
    parts = []
    for chosen, noise, some in _individuals(scm, signed, number, check_integer("batch", batch, 1), seed, model.device):
        read = partial(_read, model=model, target=target, variable=variable, first=chosen.start)
        here = [take(side, chosen) for side in sides]
        parts.append(effects.individual_effects(scm, noise, here[0], here[1], read, some).cpu())
    difference = torch.cat(parts)
    circular = variable is not None and variable.kind == "circular"
    return estimate((difference + 0.5) % 1 - 0.5 if circular else difference, seed)


def estimate(values: Tensor, seed: int = 0) -> Estimate:
    """Estimate the mean of values of individuals, (N, …), with its interval."""
    flat = values.double().flatten(1) if values.dim() > 1 else values.double()
    low, high = bootstrap_interval("effect", flat, seed=seed)
    shape = values.shape[1:]
    return Estimate(flat.mean(dim=0).view(shape), low.view(shape), high.view(shape))


def _individuals(
    scm: SCM, obs: Mapping[str, Tensor] | None, n: int, batch: int, seed: int, device: torch.device
) -> Iterator[tuple[slice, dict[str, Noise], dict[str, Tensor] | None]]:
    """Yield individuals batch by batch: which ones, their noise, abducted or drawn, and what is observed of them."""
    for start in range(0, n, batch):
        chosen = slice(start, min(start + batch, n))
        streams = make_streams(seed, range(n)[chosen], device)
        if obs is None:
            yield chosen, scm.sample_noise(chosen.stop - start, streams), None
        else:
            some = {name: value[chosen] for name, value in obs.items()}
            yield chosen, scm.abduct(some, streams), some


def _find_variable(model: Model, target: Target) -> Variable | None:
    """Return the attribute that a target names, as it is or as it is measured; None for another property of images."""
    if callable(target) or target == "image":
        return None
    known = {variable.name for variable in model.graph.attributes}
    return model.graph.variable(target if target in known else target.removeprefix(MEASURED))


def _read(values: Mapping[str, Tensor], model: Model, target: Target, variable: Variable | None, first: int) -> Tensor:
    """Read a target off the values of all variables, float64, (B, …), classes one-hot; ``first`` numbers the batch."""
    attributes = model.graph.attributes
    faults = find_failures(attributes, values) if "image" in values else find_outside(attributes, values, "would be")
    refuse({first + i: reason for i, reason in faults.items()})
    if variable is None:
        levels = to_levels(values["image"])
        return (target(levels) if callable(target) else levels).double()
    name = variable.name
    seen = values if target == name else observe(values["image"], model.graph, model.oracle, [name])
    return (F.one_hot(seen[name], variable.classes) if variable.classes else seen[name]).double()
