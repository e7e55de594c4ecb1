"""Check answers while they are computed, with the noise and the predictions that they need anyway."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Noise
from dscm.causal.scm import SCM, Effect
from dscm.causal.support import Support
from dscm.data.scaling import edges, l1
from dscm.diffusion.sampling import Sampling
from dscm.oracle import Oracle, observe
from dscm.trust.checks import Change, Checks, Readings, check_answers, check_origin
from dscm.trust.reference import Reference, make_gauges
from dscm.trust.typicality import describe

IMAGE = "image"
Query = tuple[Collection[str], Effect]  # the variables that it sets, and the paths along which it acts


@dataclass(frozen=True)
class Inspector:
    """Make the checks of the answers of one model.

    Args:
        graph: the causal graph.
        oracle: predicts the attributes that are not measured; None where all are, or none is at hand, and then no
            reading is checked.
        support, reference: of the checkpoint of the image's mechanism.
        oracle_reference: of the checkpoint of the oracle.
        thorough: also compose where that takes a prediction of its own: for each query where guidance depends on what
            it sets.
    """

    graph: Graph
    oracle: Oracle | None = None
    support: Support | None = None
    reference: Reference | None = None
    oracle_reference: Reference | None = None
    thorough: bool = False

    def watch(
        self,
        scm: SCM,
        obs: Mapping[str, Tensor],
        given: Collection[str],
        queries: Mapping[str, Query],
        several: bool = False,
    ) -> "Watch":
        """Begin with a batch.

        Args:
            scm: the model.
            obs: the observation, the image in [-1, 1].
            given: the attributes that were not read off the image.
            queries: by name.
            several: whether there are several particles, so that each of them is read.
        """
        return Watch(self, scm, obs, given, queries, several)


@dataclass
class Watch:
    """Collect what the checks of one batch need, particle by particle, as `Inspector.watch` began it."""

    inspector: Inspector
    scm: SCM
    obs: Mapping[str, Tensor]
    given: Collection[str]
    queries: Mapping[str, Query]
    several: bool
    described: Mapping[str, Tensor] = field(default_factory=dict)
    compositions: dict[str, Tensor] = field(default_factory=dict)
    readings: dict[str, list[Mapping[str, Tensor]]] = field(default_factory=dict)

    @property
    def sampling(self) -> Any:
        """Return the settings of the mechanism of the image."""
        return self.scm.mechanism(IMAGE).sampling

    @property
    def by_target(self) -> bool:
        """Tell whether guidance depends on what a query sets, and so does the composition that belongs to it."""
        return isinstance(self.sampling, Sampling) and self.sampling.weights.by_target

    def see(self, noise: Mapping[str, Noise], answers: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Look at the answers from the noise of one particle.

        Args:
            noise: of every variable.
            answers: by query, every variable.
        """
        if not self.described:
            self.described = describe(self._take_mean_noise(noise[IMAGE]), self.obs[IMAGE])
            for name, (variables, _) in self.queries.items() if self.inspector.thorough and self.by_target else ():
                null = {variable: self.obs[variable] for variable in variables}
                self.compositions[name] = self.scm.predict(noise, null)[IMAGE]
        for name in self.queries if self.several and self._reads else ():
            self.readings.setdefault(name, []).append(self._read(answers[name][IMAGE]))

    def conclude(
        self,
        composition: Tensor,
        answers: Mapping[str, Mapping[str, Tensor]],
        guided: Mapping[str, Tensor] = {},
    ) -> dict[str, Checks]:
        """Check the answers to every query.

        Args:
            composition: the images under the null intervention, (B, C, H, W).
            answers: by query, every variable, of particles their means.
            guided: by query, the images under the null intervention guided as that query is, where they are known.
        """
        own, x = self.inspector, self.obs[IMAGE]
        suits = own.reference.suits(self.sampling) if own.reference else (False, False)
        gauges = make_gauges(own.graph.attributes, (own.reference, own.oracle_reference), own.support)
        before = dict(self.obs) | (self._read(x, self.given) if self._reads and self.given else {})
        checks = {}
        for name, query in self.queries.items():
            values = answers[name]
            composed = {**self.compositions, **guided}.get(name, None if self.by_target else composition)
            origin = check_origin(
                own.reference, suits, self.described, None if composed is None else l1(composed, x), len(x)
            )
            seen = self.readings.get(name, [])
            each = {k: torch.stack([reading[k] for reading in seen]) for k in seen[0]} if seen else {}
            readings = Readings(before, self._read(values[IMAGE]) if self._reads else {}, each)
            change = Change(l1(values[IMAGE], composition), edges(values[IMAGE], composition), suits[1])
            known = [parent for parent in own.graph.image_parents if parent in readings.after]
            checks[name] = check_answers(
                own.support, own.reference, gauges, origin, query, known, self.obs, values, readings, change
            )
        return checks

    @property
    def _reads(self) -> bool:
        """Tell whether attributes can be read off images."""
        return self.inspector.oracle is not None or not self.inspector.graph.predicted

    def _read(self, image: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Read attributes, all or some, off images."""
        return observe(image, self.inspector.graph, self.inspector.oracle, names)

    def _take_mean_noise(self, noise: Noise) -> Noise:
        """Return the noise of the mean code, to which the reference belongs, if that at hand is of a sample."""
        mechanism = cast(ImageMechanism[Any], self.scm.mechanism(IMAGE))
        if not getattr(self.sampling, "sample_code", False):
            return noise
        parents = {name: self.obs[name] for name in self.scm.parents[IMAGE]}
        return mechanism.using(sample_code=False).abduct(self.obs[IMAGE], parents)
