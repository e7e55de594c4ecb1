"""Particles: answers under samples of what an observation leaves undetermined of an image, their mean and spread."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Noise
from dscm.causal.scm import SCM
from dscm.errors import InputError, option
from dscm.settings import check_integer

MOST = 10_000  # particles
IMAGE = "image"
Values = dict[str, Tensor]  # every variable, the image in [-1, 1]


def sample_codes(mechanism: ImageMechanism[Any], particles: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the settings of a mechanism, so that particles differ.

    Args:
        mechanism: the mechanism of the image.
        particles: M, 1 to `MOST`; of one particle the settings stay as they are.
        settings: fields of its ``sampling``, as a user chose them.

    Raises:
        InputError: M is no such number, or nothing that the mechanism abducts is random.
    """
    name = f"{option('particles')} {particles}"
    if check_integer("particles", particles, 1, MOST) == 1:
        return dict(settings)
    if not mechanism.has_code:
        raise InputError(f"{name}: a {mechanism.kind} mechanism has no code to sample, so all would be the same")
    if settings.get("sample_code") is False:
        raise InputError(f"{name}: are samples of the code; leave {option('sample_code')} out")
    return {**settings, "sample_code": True}


def abduct_particles(
    scm: SCM, obs: Mapping[str, Tensor], particles: int, source: Source | None
) -> Iterator[dict[str, Noise]]:
    """Yield the noise of each particle: z ~ q(z | x), and u given that z.

    The attributes are abducted once, also where a class or a saturated value leaves their noise undetermined: all
    particles then are of one intervention on the same attributes, and differ by the code alone. The first M particles
    are the same however many follow.

    Args:
        scm: the model, whose mechanism of the image has the settings of `sample_codes`.
        obs: the observation, the image in [-1, 1], (B, C, H, W).
        particles: M.
        source: of the samples; None takes the median of every posterior, which is the same M times.
    """
    noise = scm.abduct(obs, source)
    yield noise
    parents = {name: obs[name] for name in scm.parents[IMAGE]}
    for _ in range(particles - 1):
        yield {**noise, IMAGE: scm.mechanism(IMAGE).abduct(obs[IMAGE], parents, source)}


class Moments:
    """Mean and standard deviation of tensors that come one by one.

    Source: Welford 1962, "Note on a method for calculating corrected sums of squares and products".

    >>> moments = Moments()
    >>> for x in (1.0, 2.0, 6.0):
    ...     moments.add(torch.tensor(x))
    >>> moments.mean, moments.std
    (tensor(3.), tensor(2.6458))
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = self.squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Add a tensor; all have one shape."""
        self.n += 1
        deviation = x - self.mean
        self.mean = self.mean + deviation / self.n
        self.squares = self.squares + deviation * (x - self.mean)

    @property
    def std(self) -> Tensor:
        """Return the standard deviation with the divisor n − 1; zero of one tensor."""
        return (self.squares / max(self.n - 1, 1)).sqrt()


def average(
    particles: Iterable[Mapping[str, Noise]], ask: Callable[[Mapping[str, Noise]], Mapping[str, Values]]
) -> tuple[dict[str, Values], dict[str, Tensor]]:
    """Average the images of queries over particles: ``x* = 1/M Σ_m F(x; z_m)`` (paper, eq. 15).

    An image is clamped to [-1, 1] before it counts, as it is in a picture: what lies beyond white is no uncertainty.
    One particle is its own answer, as it is; an image that is not finite makes a mean that is not. Only one particle is
    in memory at a time.

    Args:
        particles: from `abduct_particles`, M of them.
        ask: returns, for the noise of a particle, by the name of each query every variable.

    Returns:
        By query: every variable, the image averaged; and, of more than one particle, the standard deviation of each
        pixel on [0, 1], (B, C, H, W).
    """
    answers: dict[str, Values] = {}
    moments: dict[str, Moments] = {}
    for noise in particles:
        for query, values in ask(noise).items():
            answers.setdefault(query, values)
            image = values[IMAGE]
            moments.setdefault(query, Moments()).add(image.clamp(-1, 1).where(image.isfinite(), math.nan))
    several = {query: moment for query, moment in moments.items() if moment.n > 1}
    means = {query: {**answers[query], IMAGE: moment.mean} for query, moment in several.items()}
    return answers | means, {query: moment.std / 2 for query, moment in several.items()}
