"""Structural causal models: any directed acyclic graph of mechanisms, and the queries on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from dscm.causal.draws import Source
from dscm.causal.mechanisms import Mechanism, Noise
from dscm.errors import InputError
from dscm.settings import check_mapping

Soft = Callable[[Tensor], float | Tensor]  # what the parents make of a variable, (B, …) → what it becomes
Intervention = Mapping[str, float | Tensor | Soft]
Effect = Literal["total", "direct", "indirect"]


@dataclass
class World:
    """What is so under one intervention, as far as it is computed.

    Args:
        do: the intervention.
        values: of variables, each (B, …).
        changed: of the variables in ``do``, where in the batch it changes them, bool (B,).
    """

    do: Intervention
    values: dict[str, Tensor] = field(default_factory=dict)
    changed: dict[str, Tensor] = field(default_factory=dict)

    def follows(self, name: str) -> bool:
        """Tell whether a variable follows its parents: it is not set, or only softly."""
        return name not in self.do or callable(self.do[name])


class SCM(nn.Module):
    """Join one mechanism per variable into a model: ``x_k = f_k(noise_k, parents_k)`` in topological order.

    An observation is a dict of tensors whose first dimension is the batch. An intervention ``do`` maps a variable to a
    number, or to a tensor with or without the batch dimension; it is cast to the dtype and device of the variable. A
    soft intervention is a function of the value that the variable's mechanism gives under the same ``do``, as in
    ``{"b": lambda b: b + 1}``: the variable still follows its parents.

    Args:
        mechanisms: by variable.
        parents: by variable; a variable left out has none.
        domains: by variable, the lowest and the highest value, at which its equation saturates; a variable left out has
            no ends. A value within its domain is composed exactly, and no counterfactual leaves it.
        limits: by variable, the lowest and the highest value that `predict` returns, predicted or set; composition is
            not exact beyond them.

    Raises:
        InputError: a parent has no mechanism, or the graph has a cycle.

    Source: Pearl 2009, "Causality", section 7.1; soft interventions: Eberhardt and Scheines 2007, "Interventions and
    causal inference"; the form of the queries is that of dowhy.gcm.

    >>> from dscm.causal.mechanisms import LinearGaussian
    >>> model = SCM({"a": LinearGaussian({}, 0.0, 1.0), "b": LinearGaussian({"a": 2.0}, 0.0, 1.0)}, {"b": ["a"]})
    >>> model.counterfactual({"a": torch.tensor([1.0]), "b": torch.tensor([2.5])}, do={"a": 3.0})
    {'a': tensor([3.]), 'b': tensor([6.5000])}
    >>> model.counterfactual({"a": torch.tensor([1.0]), "b": torch.tensor([2.5])}, do={"a": 3.0, "b": lambda b: b + 1})
    {'a': tensor([3.]), 'b': tensor([7.5000])}
    """

    def __init__(
        self,
        mechanisms: Mapping[str, Mechanism[Any]],
        parents: Mapping[str, Sequence[str]],
        domains: Mapping[str, tuple[float, float]] = {},
        limits: Mapping[str, tuple[float, float]] = {},
    ) -> None:
        super().__init__()
        self.domains, self.limits = dict(domains), dict(limits)
        self.mechanisms = nn.ModuleDict(mechanisms)
        self.parents = {name: tuple(parents.get(name, ())) for name in mechanisms}
        self.order = topological_order(self.parents)

    def mechanism(self, name: str) -> Mechanism[Any]:
        """Return the mechanism of a variable."""
        return cast(Mechanism[Any], self.mechanisms[name])

    def sample(self, n: int, generator: Source, do: Intervention = {}) -> dict[str, Tensor]:
        """Draw ``n`` samples of every variable, under ``do``, on the device of the generator."""
        drawing = {name: self.mechanism(name).drawing() for name in self.order}
        return SCM(drawing, self.parents, self.domains, self.limits).predict(self.sample_noise(n, generator), do)

    def sample_noise(self, n: int, generator: Source) -> dict[str, Noise]:
        """Draw the noise of ``n`` samples of every variable, on the device of the generator."""
        return {name: self.mechanism(name).sample_noise(n, generator) for name in self.order}

    def abduct(self, obs: Mapping[str, Tensor], generator: Source | None = None) -> dict[str, Noise]:
        """Infer the noise of every variable.

        Args:
            obs: the observation; it holds every variable, other entries are ignored.
            generator: source of noise that the observation leaves undetermined; None takes the posterior's median.

        Raises:
            InputError: a variable is missing.
        """
        missing = [name for name in self.order if name not in obs]
        if missing:
            raise InputError(f"the observation lacks {', '.join(missing)}; it needs {', '.join(self.order)}")
        noise = {}
        for name in self.order:  # Abduction
            parents = {parent: obs[parent] for parent in self.parents[name]}
            noise[name] = self.mechanism(name).abduct(obs[name], parents, generator)
        return noise

    def predict(
        self, noise: Mapping[str, Noise], do: Intervention = {}, obs: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compute every variable from its noise, and set those in ``do``; in topological order.

        Args:
            noise: by variable, from `abduct`.
            do: the intervention; functions in it are soft.
            obs: the observation. With it, guidance emphasises a variable only in those elements of the batch in which
                ``do`` changes it: from what was observed, or, softly, from what its parents make of it. None
                emphasises it in all.

        Raises:
            InputError: ``do`` names an unknown variable or holds a value that its variable cannot take, or the noise
                lacks a variable or is of batches of several sizes.
        """
        return self.predict_each(noise, [do], obs)[0]

    def predict_each(
        self,
        noise: Mapping[str, Noise],
        dos: Sequence[Intervention],
        obs: Mapping[str, Tensor] | None = None,
        most: int | None = None,
    ) -> list[dict[str, Tensor]]:
        """Compute every variable under each of several interventions, as `predict` does under one.

        Their worlds are computed together: a mechanism sees the batch once for each in which it predicts.

        Args:
            noise, obs: as in `predict`, of B elements.
            dos: the interventions.
            most: elements that a mechanism may see at a time, where it is more than B; None for any number.

        Raises:
            InputError: as `predict`.
        """
        self._check_noise(noise, obs or {})
        for name in (name for do in dos for name in do):
            if name not in self.parents:
                raise InputError(f"unknown variable '{name}' in do; known: {', '.join(self.order)}")
        n = len(_first(noise[self.order[0]]))
        at_once = max(1, most // max(n, 1)) if most else max(1, len(dos))
        worlds = [World(do) for do in dos]
        for start in range(0, len(worlds), at_once):
            self._fill(worlds[start : start + at_once], noise, obs or {})
        return [world.values for world in worlds]

    def _fill(self, worlds: Sequence[World], noise: Mapping[str, Noise], obs: Mapping[str, Tensor]) -> None:
        """Compute every variable of some worlds."""
        for name in self.order:
            self._follow(name, noise[name], [world for world in worlds if world.follows(name)])  # Prediction
            for world in worlds:
                before = world.values.get(name, obs.get(name))
                if name in world.do:  # Action
                    world.values[name] = _set(name, world.do[name], before, noise[name], self.mechanism(name))
                if name in self.limits:
                    world.values[name] = world.values[name].clamp(*self.limits[name])
                if name in world.do:
                    world.changed[name] = _find_change(world.values[name], before if name in obs else None)

    def _follow(self, name: str, noise: Noise, worlds: Sequence[World]) -> None:
        """Predict a variable in the worlds in which it follows its parents, in one pass."""
        if not worlds:
            return
        unset = torch.zeros(len(_first(noise)), dtype=torch.bool, device=_first(noise).device)
        parents = {parent: torch.cat([world.values[parent] for world in worlds]) for parent in self.parents[name]}
        changed = {
            variable: torch.cat([world.changed.get(variable, unset).to(unset.device) for world in worlds])
            for variable in dict.fromkeys(variable for world in worlds for variable in world.changed)
        }
        value = self.mechanism(name).predict(_repeat(noise, len(worlds)), parents, changed)
        value = value.clamp(*self.domains[name]) if name in self.domains else value
        for world, part in zip(worlds, value.unflatten(0, (len(worlds), len(unset)))):
            world.values[name] = part

    def _check_noise(self, noise: Mapping[str, Noise], obs: Mapping[str, Tensor]) -> None:
        """Check that there is noise of every variable, and of one batch, that of the observation if there is one."""
        check_mapping("noise", noise, "a dict by name, as abduct returns it")
        missing = [name for name in self.order if name not in noise]
        if missing:
            raise InputError(f"the noise lacks {', '.join(missing)}; it needs {', '.join(self.order)}")
        for name in self.order:
            if not isinstance(noise[name], Tensor | tuple) or not isinstance(_first(noise[name]), Tensor):
                raise InputError(f"the noise of {name}: must be as abduct returns it, not {type(noise[name]).__name__}")
        sizes = {name: len(_first(noise[name])) for name in self.order}
        sizes |= {f"observed {name}": len(obs[name]) for name in self.order if name in obs}
        name, n = next(iter(sizes.items()))
        for other, size in sizes.items():
            if size != n:
                raise InputError(f"the noise of {name} is of a batch of {n}, {other} of one of {size}")

    def along(
        self, obs: Mapping[str, Tensor], noise: Mapping[str, Noise], do: Intervention, effect: Effect, target: str
    ) -> Intervention:
        """Return the intervention that acts on ``target`` as ``do`` does along some of its paths only.

        The mediators lie between the variables in ``do`` and ``target``. ``total``: everything follows the
        intervention. ``direct``: the mediators keep their observed values. ``indirect``: the mediators follow it, and
        the variables in ``do`` keep their observed values. A soft intervention sets what it makes of its variable
        under the whole of ``do``.

        Args:
            obs, noise: the observation, and its noise from `abduct`.
            do: the intervention.
            effect: which paths.
            target: the variable that the paths lead to.

        Raises:
            InputError: as `predict`; there is no such effect; or no variable in ``do`` is upstream of ``target``.

        Source: Pearl 2001, "Direct and indirect effects"; paper, A.2.
        """
        if not isinstance(effect, str) or effect not in get_args(Effect):
            raise InputError(f"effect '{effect}': must be one of {', '.join(get_args(Effect))}")
        upstream = self.check_upstream(do, target) if do else set()
        if effect == "total" or not do:
            return do
        between = (self.descendants(do) & upstream) - do.keys()
        mediators = [name for name in self.order if name in between]
        followed = self.predict(noise, {**do, target: obs[target]})
        if effect == "direct":
            fixed = {name: followed[name] if callable(value) else value for name, value in do.items()}
            return {**fixed, **{name: obs[name] for name in mediators}}
        kept = {name: obs[name] for name in do}
        return {**kept, **{name: followed[name] for name in mediators}}

    def check_upstream(self, names: Iterable[str], target: str) -> set[str]:
        """Return the ancestors of ``target``.

        Raises:
            InputError: none of the variables ``names`` is one.
        """
        upstream = {name for name in self.order if target in self.descendants([name])}
        if not upstream & set(names):
            raise InputError(
                f"{', '.join(names)}: not upstream of {target}; upstream are {', '.join(sorted(upstream))}"
            )
        return upstream

    def descendants(self, names: Iterable[str]) -> set[str]:
        """Return the descendants of the variables ``names``, without those themselves."""
        reached = set(names)
        for name in self.order:
            if reached & set(self.parents[name]):
                reached.add(name)
        return reached - set(names)

    def counterfactual(
        self, obs: Mapping[str, Tensor], do: Intervention, generator: Source | None = None
    ) -> dict[str, Tensor]:
        """Compute what ``obs`` would have been under ``do``: ``predict(abduct(obs, generator), do, obs)``.

        Raises:
            InputError: as `abduct` and `predict`.
        """
        return self.predict(self.abduct(obs, generator), do, obs)


def topological_order(parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Order the variables so that parents come first, and as they were declared wherever that leaves a choice.

    Args:
        parents: by variable, with an entry for every variable.

    Raises:
        InputError: a parent is not a variable, or there is a cycle.

    Source: Kahn 1962, "Topological sorting of large networks".
    """
    for name, names in parents.items():
        for parent in names:
            if parent not in parents:
                raise InputError(f"variable '{name}' has parent '{parent}', which is not one of: {', '.join(parents)}")
    order: list[str] = []
    waiting = list(parents)
    while waiting:
        ready = next((name for name in waiting if set(parents[name]) <= set(order)), None)
        if ready is None:
            raise InputError(f"cycle: {' -> '.join(_find_cycle(waiting, parents))}")
        order.append(ready)
        waiting.remove(ready)
    return tuple(order)


def _find_cycle(waiting: Sequence[str], parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Walk from child to parent, within variables that all wait for one, until the walk closes; return it forwards."""
    path = [waiting[0]]
    while path[-1] not in path[:-1]:
        path.append(next(parent for parent in parents[path[-1]] if parent in waiting))
    return path[path.index(path[-1]) :][::-1]


def _find_change(value: Tensor, before: Tensor | None) -> Tensor:
    """Tell in which elements of the batch, (B,), an intervention changes a variable: in all, if nothing was before."""
    differs = torch.ones_like(value, dtype=torch.bool) if before is None else value.to(before) != before
    return differs.flatten(1).any(dim=1) if differs.dim() > 1 else differs


def _repeat(noise: Noise, times: int) -> Noise:
    """Repeat the noise of a batch, so that it stands once for each of several worlds; empty parts stay empty."""
    if times == 1:
        return noise
    if isinstance(noise, Tensor):
        return noise.repeat(times, *[1] * (noise.dim() - 1))
    parts = [_repeat(part, times) for part in noise]
    return type(noise)(*parts) if hasattr(noise, "_fields") else tuple(parts)


def _first(noise: Noise) -> Tensor:
    """Return the tensor of a variable's noise that has the batch size, dtype and device of its value."""
    return noise if isinstance(noise, Tensor) else cast(Tensor, noise[0])


def _set(
    name: str, value: float | Tensor | Soft, before: Tensor | None, noise: Noise, mechanism: Mechanism[Any]
) -> Tensor:
    """Broadcast the value of an intervention to the batch of the noise, in the variable's dtype and on its device.

    A soft one is computed from the value ``before`` it.
    """
    event_dims = mechanism.event_dims
    like = _first(noise)
    if callable(value):
        value = value(cast(Tensor, before).clone())  # which the function may change in place
    value = torch.as_tensor(value, device=like.device)
    batch, event = value.shape[: value.dim() - event_dims], value.shape[value.dim() - event_dims :]
    if value.dim() < event_dims or batch not in ((), (len(like),)):
        wanted = f"it takes {event_dims} dimensions, after a batch of {len(like)} or none"
        raise InputError(f"do({name}) has shape {tuple(value.shape)}; {wanted}")
    cast_value = value.to(mechanism.dtype or like.dtype)
    if (cast_value != value).any() and not cast_value.is_floating_point():
        raise InputError(f"do({name}) takes whole numbers only")
    return cast_value.expand(len(like), *event).clone()
