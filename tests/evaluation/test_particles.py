"""Mean counterfactuals, and how often their spread covers the truth."""

import math

import pytest
import torch
from torch import Tensor

from dscm.causal.draws import Source, draw_normal
from dscm.causal.mechanisms import Intervened, Mechanism, Parents
from dscm.evaluation.particles import Subject, cover, expected_coverage
from dscm.evaluation.statistics import mean_over
from dscm.graphs import get_graph

GRAPH = get_graph("morphomnist-digit")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Haze(Mechanism[Tensor]):
    """An image of which one number is seen and one is guessed: 0.05·digit + z·digit, z ~ N(0, 0.02²)."""

    event_dims = 3

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        assert generator is not None
        return 0.02 * draw_normal(value.shape, generator, value.dtype)

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        return (0.05 + noise) * parents["digit"][:, None, None, None]


def observe(n: int) -> dict[str, Tensor]:
    return {"digit": torch.ones(n, dtype=torch.int64), "image": torch.zeros(n, 1, 4, 4, dtype=torch.float64)}


def test_the_mean_converges_and_the_spread_is_known() -> None:
    """Under do(digit=d) a pixel has mean 0.05·d and standard deviation 0.02·d, half of it on [0, 1]."""
    scm, obs, m = GRAPH.scm(Haze()), observe(20), 400
    reply = Subject(scm, m, seeded()).ask(obs, {"three": ({"digit": 3}, obs), "none": ({}, obs)}, kept=("three",))
    values, spread = reply.answers, reply.spread
    for name, digit in (("three", 3), ("none", 1)):
        error = values[name]["image"] - 0.05 * digit
        assert error.abs().max() < 4.5 * 0.02 * digit / math.sqrt(m)
        assert error.square().mean().sqrt() == pytest.approx(0.02 * digit / math.sqrt(m), rel=0.15)
        assert spread[name].mean() == pytest.approx(0.01 * digit, rel=0.01)
    torch.testing.assert_close(reply.particles["three"].mean(dim=0), values["three"]["image"])


def test_coverage_by_hand() -> None:
    """One pixel, two particles at .4 and .6 of [0, 1]: mean .5, standard deviation .1414, so .2172 to .7828."""
    particles = 2 * torch.tensor([0.4, 0.6]).reshape(2, 1, 1, 1, 1) - 1
    for truth, covered, rank in ((0.5, 1, 0), (0.6, 1, 0.25), (0.78, 1, 0.5), (0.79, 0, 0.5), (0.9, 0, 1)):
        result = cover(particles, torch.full((1, 1, 1, 1), 2 * truth - 1))
        assert result["covered"].tolist() == [[covered, 1]] and result["varied"].tolist() == [1]
        assert result["rank"].item() == rank, truth


def test_pixels_without_spread_do_not_count() -> None:
    """Neither where all particles agree, nor where they differ by less than two steps of 8 bits."""
    particles = torch.zeros(3, 2, 1, 1, 4)
    particles[:, 0, 0, 0, 0] = torch.tensor([-0.4, 0.0, 0.4])
    particles[:, 0, 0, 0, 1] = torch.tensor([-0.01, 0.0, 0.01])
    result = cover(particles, torch.ones(2, 1, 1, 4))
    assert result["covered"].tolist() == [[0, 1], [0, 0]], "the second image has no pixel that counts"
    assert result["varied"].tolist() == [0.25, 0]
    assert result["rank"].tolist() == [1, 1], "the truth is farther than particles that all agree"
    equal = cover(particles, particles[1])
    assert equal["covered"].tolist() == [[1, 1], [0, 0]] and equal["rank"].tolist() == [1 / 6, 0.5]


@pytest.mark.parametrize(("m", "share"), [(4, 0.8284), (9, 0.9057)])
def test_a_right_posterior_is_covered_as_often_as_it_should_be(m: int, share: float) -> None:
    """Truth and particles from one Gaussian; the share is Student's by simulation, the rank is uniform."""
    n = 4000
    x = 0.1 * torch.randn(m + 1, n, 1, 2, 2, generator=seeded(), dtype=torch.float64)
    result = cover(x[1:], x[0])
    assert expected_coverage(m) == pytest.approx(share, abs=0.001)
    assert (result["covered"][:, 0].sum() / n).item() == pytest.approx(share, abs=0.012)
    ranks = (result["rank"] * m).round().long().bincount(minlength=m + 1) / n
    assert (ranks - 1 / (m + 1)).abs().max() < 4.5 * math.sqrt(1 / (m + 1) / n)


@pytest.mark.parametrize(("width", "mean_rank"), [(0.5, 0.9), (2.0, 0.1)])
def test_a_wrong_posterior_is_told(width: float, mean_rank: float) -> None:
    """Particles that spread half as far as the truth cover too little, and those that spread twice as far too much."""
    n, m = 500, 16
    truth = 0.1 * torch.randn(n, 1, 4, 4, generator=seeded(1))
    particles = 0.1 * width * torch.randn(m, n, 1, 4, 4, generator=seeded(2))
    result = cover(particles, truth)
    covered = result["covered"][:, 0].sum() / n
    assert (covered < expected_coverage(m) - 0.2) if width < 1 else (covered > expected_coverage(m) + 0.05)
    assert (result["rank"].mean() > mean_rank) if width < 1 else (result["rank"].mean() < mean_rank)


def test_expected_coverage_tends_to_the_gaussian_s() -> None:
    """95.45% within two standard deviations; of two particles, P(|T| ≤ 2/√1.5) of Cauchy's distribution."""
    assert expected_coverage(10_000) == pytest.approx(math.erf(math.sqrt(2)), abs=1e-4)
    assert expected_coverage(2) == pytest.approx(2 / math.pi * math.atan(2 / math.sqrt(1.5)))
    assert mean_over(torch.ones(1), torch.ones(1)).shape == (1, 2), "the form of `covered`"
