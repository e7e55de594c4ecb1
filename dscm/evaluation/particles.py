"""Particles of counterfactuals, and whether their spread covers the truth (paper, eq. 15)."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.mechanisms import Noise
from dscm.causal.particles import IMAGE, Values, abduct_particles, average
from dscm.causal.scm import SCM, Intervention
from dscm.data.scaling import to_unit
from dscm.evaluation.statistics import mean_over

WIDTH = 2.0  # standard deviations either way that the central interval of a pixel reaches
FLOOR = 0.01  # least spread on [0, 1] of a pixel that counts: twice the step of 8 bits, to which a truth is rounded


Query = tuple[Intervention, Mapping[str, Tensor] | None]  # do and obs, as `SCM.predict` takes them
Look = Callable[[Mapping[str, Noise], Mapping[str, Mapping[str, Tensor]]], None]  # at one particle and its answers


class Reply(NamedTuple):
    """What a model answers to several queries about the same images.

    Args:
        answers: by query, every variable; the image is the mean over the particles.
        spread: by query, the standard deviation of each pixel over several particles on [0, 1], (B, C, H, W).
        particles: by query that asked for them, the images of all particles, (M, B, C, H, W).
        unsolved: as in `ImageNoise`, of the first particle; empty where no step was implicit.
        seconds: per image, of the abduction of every particle and one prediction from it.
    """

    answers: dict[str, Values]
    spread: dict[str, Tensor]
    particles: dict[str, Tensor]
    unsolved: Tensor
    seconds: float


@dataclass(frozen=True)
class Subject:
    """A causal model as it is measured: its answers are means over M particles.

    Args:
        scm: the model; for more than one particle with the settings of `sample_codes`.
        particles: M.
        source: of the samples, and of other noise that an observation leaves undetermined.
    """

    scm: SCM
    particles: int = 1
    source: Source | None = None

    def ask(
        self,
        obs: Mapping[str, Tensor],
        queries: Mapping[str, Query],
        kept: Collection[str] = (),
        look: Look | None = None,
    ) -> Reply:
        """Answer several queries with one abduction.

        Args:
            obs: the observation, the image in [-1, 1].
            queries: by name.
            kept: those whose particles are returned.
            look: looks at each particle.
        """
        device, n = obs[IMAGE].device, len(obs[IMAGE])
        start, times, unsolved = read_clock(device), list[float](), list[Tensor]()
        images: dict[str, list[Tensor]] = {name: [] for name in kept}

        def predict(noise: Mapping[str, Noise]) -> dict[str, Values]:
            unsolved.append(getattr(noise[IMAGE], "unsolved", torch.empty(0)))
            found = {}
            for name, (do, reference) in queries.items():
                found[name] = self.scm.predict(noise, do, reference)
                times.append(read_clock(device))
            for name in kept:
                images[name].append(found[name][IMAGE])
            if look:
                look(noise, found)
            return found

        answers, spread = average(abduct_particles(self.scm, obs, self.particles, self.source), predict)
        kept_images = {name: torch.stack(x) for name, x in images.items()}
        return Reply(answers, spread, kept_images, unsolved[0], self.particles * (times[0] - start) / n)

    def counterfactual(self, obs: Mapping[str, Tensor], do: Intervention) -> Values:
        """Return every variable under an intervention."""
        return self.ask(obs, {"": (do, obs)}).answers[""]


def read_clock(device: torch.device) -> float:
    """Return the time in seconds after a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def cover(particles: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Compare true counterfactuals with the spread of particles.

    If the truth is one more draw from the distribution of the particles, the share of covered pixels is
    `expected_coverage` on average, and the rank is uniform. A spread that is too narrow covers less, and ranks near 1.

    Args:
        particles: M images of each observation, in [-1, 1], (M, B, C, H, W); M at least 2.
        truth: the true images, (B, C, H, W).

    Returns:
        ``covered``: the share of pixels whose truth lies within `WIDTH` standard deviations of the mean, among those
        with a standard deviation above `FLOOR`; as `mean_over` the images that have such pixels, (B, 2).
        ``varied``: the share of such pixels, (B,).
        ``rank``: the share of particles that lie nearer to the centre than the truth does, ties by half, (B,) in
        [0, 1]. The centre is the mean of particles and truth, the distance the L1: it is M/(M + 1) times that to the
        mean of the *other* M images, so particles are judged as the truth is.
    """
    x, y = to_unit(particles), to_unit(truth)
    std = x.std(dim=0)
    counts = std > FLOOR
    within = ((y - x.mean(dim=0)).abs() <= WIDTH * std) & counts
    varied = counts.flatten(1).sum(dim=1)
    covered = within.flatten(1).sum(dim=1) / varied.clamp_min(1)
    return {
        "covered": mean_over(covered, varied > 0),
        "varied": varied / counts[0].numel(),
        "rank": _rank(x, y),
    }


def _rank(particles: Tensor, truth: Tensor) -> Tensor:
    """Rank the distance of the truth to the centre among those of the particles, as `cover` defines it."""
    every = torch.cat([truth[None], particles])
    distance = (every - every.mean(dim=0)).abs().flatten(2).mean(dim=2)  # (M + 1, B), the truth's first
    own, others = distance[0], distance[1:]
    tied = torch.isclose(others, own, rtol=1e-5, atol=1e-7)
    return ((others < own) & ~tied).double().mean(dim=0) + tied.double().mean(dim=0) / 2


def expected_coverage(particles: int, width: float = WIDTH) -> float:
    """Return the share of Gaussian pixels that ``width`` standard deviations of M particles cover.

    ``P(|T| ≤ width / √(1 + 1/M))``, T of Student's distribution with M − 1 degrees of freedom: mean and standard
    deviation are themselves estimates. Above M = 100 it is nearly that of the Gaussian, 95.4% of two.

    Args:
        particles: M, at least 2.
        width: standard deviations either way.
    """
    from scipy.stats import t as student  # takes longer to import than all of this package

    return float(2 * student.cdf(width / math.sqrt(1 + 1 / particles), df=particles - 1) - 1)
