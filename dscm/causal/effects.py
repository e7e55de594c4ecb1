"""Populations under interventions: samples given observed data, and the effect on each individual."""

from collections.abc import Callable, Mapping

from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.mechanisms import Noise
from dscm.causal.scm import SCM, Intervention
from dscm.errors import InputError


def interventional_samples(
    scm: SCM, obs: Mapping[str, Tensor], do: Intervention, generator: Source
) -> dict[str, Tensor]:
    """Draw from the interventional distribution, given the observed values that ``do`` does not reach.

    Variables that are neither in ``do`` nor downstream of it keep their observed values. Those downstream are drawn
    anew from their mechanisms given their new parents: their noise is not abducted, which a counterfactual would do. A
    soft intervention changes the observed value of a root, and a newly drawn value of any other variable.

    Args:
        scm: the causal model.
        obs: the observed values, each (B, …); variables that are drawn anew may be missing.
        do: the intervention.
        generator: source of the new noise.

    Returns:
        Every variable, (B, …).

    Raises:
        InputError: a variable that is needed is missing; or as `SCM.predict`.

    Source: ``dowhy.gcm.interventional_samples`` with ``observed_data`` (Blöbaum et al. 2024, "DoWhy-GCM").

    >>> import torch
    >>> from dscm.causal.mechanisms import LinearGaussian
    >>> model = SCM({"a": LinearGaussian({}, 0.0, 1.0), "b": LinearGaussian({"a": 2.0}, 0.0, 1e-9)}, {"b": ["a"]})
    >>> observed = {"a": torch.tensor([1.0]), "b": torch.tensor([2.5])}
    >>> interventional_samples(model, observed, {"a": lambda a: a + 1}, torch.Generator())
    {'a': tensor([2.]), 'b': tensor([4.])}
    """
    reached = scm.descendants(do) | do.keys()
    roots = [name for name in scm.order if not scm.parents[name]]
    needed = [name for name in scm.order if name not in reached or name in roots]
    missing = [name for name in needed if name not in obs]
    if missing:
        raise InputError(f"the observation lacks {', '.join(missing)}; it needs {', '.join(needed)}")
    noise = scm.sample_noise(len(obs[needed[0]]), generator)
    noise |= {name: scm.mechanism(name).abduct(obs[name], {}, generator) for name in roots if name in do}
    kept = {name: obs[name] for name in needed if name not in reached}
    return scm.predict(noise, {**kept, **do}, obs)


def individual_effects(
    scm: SCM,
    noise: Mapping[str, Noise],
    do: Intervention,
    reference: Intervention,
    read: Callable[[Mapping[str, Tensor]], Tensor],
    obs: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Compute the effect of ``do`` against ``reference`` on each individual, whose noise is the same under both.

    ``read(predict(noise, do)) − read(predict(noise, reference))``; the mean over a population is its average effect.

    Args:
        scm: the causal model.
        noise: of B individuals.
        do, reference: the interventions.
        read: maps the values of all variables to those of the target, (B, …).
        obs: the observation, where there is one; guidance by ``do`` depends on it.

    Returns:
        The effects, (B, …).
    """
    return read(scm.predict(noise, do, obs)) - read(scm.predict(noise, reference, obs))
