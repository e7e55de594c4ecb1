"""Particles of counterfactuals, and whether their spread covers the truth (paper, eq. 15)."""

import math
from collections.abc import Iterator, Mapping

import torch
from scipy.stats import t as student
from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.particles import Values, abduct_particles, average
from dscm.causal.scm import SCM, Intervention
from dscm.data.scaling import to_unit
from dscm.evaluation.statistics import mean_over

WIDTH = 2.0  # standard deviations either way that the central interval of a pixel reaches
FLOOR = 0.01  # least spread on [0, 1] of a pixel that counts: twice the step of 8 bits, to which a truth is rounded


def draw_counterfactuals(
    scm: SCM, obs: Mapping[str, Tensor], do: Intervention, particles: int, source: Source | None
) -> Iterator[Values]:
    """Yield the counterfactual of each particle: every variable, the image in [-1, 1], (B, C, H, W).

    Args:
        scm: the model, whose mechanism of the image samples its code (``sample_code``).
        obs: the observation.
        do: the intervention.
        particles: M.
        source: of the samples.
    """
    for noise in abduct_particles(scm, obs, particles, source):
        yield scm.predict(noise, do, obs)


def average_counterfactuals(
    scm: SCM,
    obs: Mapping[str, Tensor],
    interventions: Mapping[str, Intervention],
    particles: int,
    source: Source | None,
) -> tuple[dict[str, Values], dict[str, Tensor]]:
    """Return the mean counterfactual under each of several interventions, and its spread, with one abduction for all.

    Args:
        scm, obs, particles, source: as in `draw_counterfactuals`.
        interventions: by name; ``{}`` composes.

    Returns:
        As `average`: by name, every variable and, of several particles, the standard deviation of each pixel on [0, 1].
    """
    return average(
        abduct_particles(scm, obs, particles, source),
        lambda noise: {name: scm.predict(noise, do, obs) for name, do in interventions.items()},
    )


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
    return float(2 * student.cdf(width / math.sqrt(1 + 1 / particles), df=particles - 1) - 1)
