"""Particles: what differs between them, what does not, and their mean and spread."""

import doctest
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dscm.causal import particles
from dscm.causal.draws import Streams, make_streams
from dscm.causal.mechanisms import Mechanism
from dscm.causal.particles import Moments, abduct_particles, average, sample_codes
from dscm.causal.scm import SCM
from dscm.errors import InputError
from dscm.graphs import get_graph
from tests.support.image_mechanisms import make, observe, seeded

CPU = torch.device("cpu")


class Coin(Mechanism[Tensor]):
    """A root whose noise its value leaves undetermined."""

    def abduct(self, value: Tensor, parents: Any, generator: Any = None) -> Tensor:
        return torch.cat([torch.rand(1, generator=one) for one in generator.generators]).to(value)

    def predict(self, noise: Tensor, parents: Any, intervened: Any = {}) -> Tensor:
        return noise


def make_scm(name: str, **settings: Any) -> SCM:
    """A digit's model whose image samples its code, with a coin that is no parent of the image."""
    return get_graph("morphomnist").scm(make(name).using(sample_code=True, **settings))


def name_streams(names: str) -> Streams:
    """One stream for each image, by its name."""
    return make_streams(0, names, CPU)


def test_moments_are_torch_s() -> None:
    """Of numbers far from zero too; and one tensor is its own mean, and equal ones have no spread at all."""
    x = 1e4 + torch.randn(50, 3, generator=seeded(), dtype=torch.float64)
    moments = Moments()
    for row in x:
        moments.add(row)
    torch.testing.assert_close(moments.mean, x.mean(dim=0))
    torch.testing.assert_close(moments.std, x.std(dim=0), rtol=1e-9, atol=0)
    same = Moments()
    for _ in range(3):
        same.add(x.float()[0])
        assert torch.equal(same.mean, x.float()[0]) and not same.std.any()
    assert doctest.testmod(particles).failed == 0


@pytest.mark.parametrize("name", ["semantic", "dynamic", "residual", "vae", "hvae", "vci"])
@torch.no_grad()
def test_each_particle_explains_the_image_anew(name: str) -> None:
    """Codes differ, u follows its code, and composition is as exact under every code as under the mean one."""
    exact = {"fixed_point": 10} if name == "semantic" else {}
    scm, obs = make_scm(name, **exact), observe(2)
    noises = [*abduct_particles(scm, obs, 3, name_streams("ab"))]
    codes = [noise["image"].latents if hasattr(noise["image"], "latents") else noise["image"].z for noise in noises]
    assert not torch.equal(codes[0], codes[1]) and not torch.equal(codes[1], codes[2])
    assert name == "vci" or not torch.equal(noises[0]["image"].u, noises[1]["image"].u)
    if name in ("semantic", "residual", "vae", "hvae"):
        for noise in noises:
            torch.testing.assert_close(scm.predict(noise)["image"], obs["image"], rtol=0, atol=1e-6)


@torch.no_grad()
def test_only_the_code_differs() -> None:
    """Noise of attributes is drawn once, as of one particle; and the first particles are the same, however many."""
    image = make("semantic").using(sample_code=True)
    graph = get_graph("morphomnist")
    roots = dict(graph.scm().mechanisms.items()) | {"coin": Coin(), "image": image}
    scm = SCM(roots, {variable.name: variable.parents for variable in graph.variables})  # type: ignore[arg-type]
    obs = observe() | {"coin": torch.zeros(3)}
    few, many = ([*abduct_particles(scm, obs, m, name_streams("abc"))] for m in (2, 4))
    alone = make("semantic")
    mean = SCM(roots | {"image": alone}, scm.parents).abduct(obs, name_streams("abc"))  # type: ignore[arg-type]
    for noise in many:
        assert torch.equal(noise["coin"], mean["coin"])
    for one, other in zip(few, many):
        assert torch.equal(one["image"].z, other["image"].z) and torch.equal(one["image"].u, other["image"].u)


@pytest.mark.parametrize("name", ["semantic", "vae"])
@torch.no_grad()
def test_a_particle_belongs_to_its_image(name: str) -> None:
    """In whatever order images come, up to rounding of the network's in another place of a batch."""
    scm, obs, turned = make_scm(name), observe(), torch.tensor([2, 0, 1])

    def ask(order: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
        part = {key: value[order] for key, value in obs.items()}
        source = make_streams(seed, ["abc"[i] for i in order.tolist()], CPU)
        values, spread = average(
            abduct_particles(scm, part, 3, source), lambda noise: {"q": scm.predict(noise, {"digit": 3}, part)}
        )
        return values["q"]["image"], spread["q"]

    one, other, another = ask(torch.arange(3)), ask(turned), ask(torch.arange(3), seed=1)
    for first, second, third in zip(one, other, another):
        torch.testing.assert_close(first[turned], second, rtol=0, atol=1e-13)
        assert (first - third).abs().max() > 1e-6, "another seed has other codes"


@pytest.mark.parametrize("name", ["semantic", "spatial", "vae", "diffscm"])
@torch.no_grad()
def test_one_particle_is_the_usual_answer(name: str) -> None:
    """Bit for bit, images beyond the range too; and where nothing is random several have no spread."""
    graph = get_graph("morphomnist-digit" if name == "diffscm" else "morphomnist")
    scm, obs = graph.scm(make(name)), observe()
    wanted = scm.predict(scm.abduct(obs, name_streams("abc")), {"digit": 3}, obs)
    for m in (1, 3):
        noises = abduct_particles(scm, obs, m, name_streams("abc"))
        values, spread = average(noises, lambda noise: {"q": scm.predict(noise, {"digit": 3}, obs)})
        assert all(torch.equal(values["q"][key], value) for key, value in wanted.items() if key != "image")
        expected = wanted["image"] if m == 1 else wanted["image"].clamp(-1, 1)
        assert torch.equal(values["q"]["image"], expected)
        assert not spread if m == 1 else not spread["q"].any()


def test_mean_and_spread_are_of_pictures() -> None:
    """On [0, 1], of images that end at black and white: half of ±0.5, of 3 and 1 nothing; infinity is none."""
    images = iter([torch.tensor([[-0.5, 3.0, math.inf]]), torch.tensor([[0.5, 1.0, 0.0]])])
    values, spread = average([{}, {}], lambda _: {"q": {"image": next(images)}})
    expected = torch.tensor([[0.0, 1.0, math.nan]])
    torch.testing.assert_close(values["q"]["image"], expected, equal_nan=True)
    torch.testing.assert_close(spread["q"], torch.tensor([[0.5**0.5 / 2, 0.0, math.nan]]), equal_nan=True)


def test_particles_need_something_random() -> None:
    assert sample_codes(make("spatial"), 1, {"steps": 3}) == {"steps": 3}
    assert sample_codes(make("vae"), 2, {}) == {"sample_code": True}
    for name in ("spatial", "diffscm"):
        with pytest.raises(InputError, match=f"particles 8: a {name} mechanism has no code to sample"):
            sample_codes(make(name), 8, {})
    with pytest.raises(InputError, match="particles 8: are samples of the code; leave sample_code out"):
        sample_codes(make("semantic"), 8, {"sample_code": False})
    for wrong in (0, -1, 1.5, True, "2", 10_001):
        with pytest.raises(InputError, match=f"particles {wrong}: must be an integer, 1 to 10000"):
            sample_codes(make("semantic"), wrong, {})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sample_code on: a spatial mechanism has no code to sample"):
        make("spatial").using(sample_code=True)
