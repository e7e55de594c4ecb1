"""Learned mechanisms of every kind of variable: exact abduction, true posteriors, densities that integrate to one."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm.causal.graph_file import parse
from dscm.causal.learned import CategoricalMechanism, FlowMechanism, LearnedAttributes, LearnedMechanism
from dscm.causal.variables import Variable
from dscm.graphs import get_graph

N = 20_000
CAUSE = Variable("cause", "continuous", (), -10, 10)
KINDS = {
    "continuous": Variable("x", "continuous", ("cause",), -50, 50),
    "positive": Variable("x", "positive", ("cause",), 0, 50),
    "bounded": Variable("x", "bounded", ("cause",), 2, 5),
}
CLASSES = Variable("x", "categorical", ("cause",), 0, 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shuffle(model: LearnedMechanism, scale: float = 0.5) -> LearnedMechanism:
    """Give a mechanism random weights, as if it had learned something."""
    for i, parameter in enumerate(model.parameters()):
        torch.nn.init.normal_(parameter, std=scale, generator=seeded(i))
    return model.double()


def parents(n: int = N) -> dict[str, Tensor]:
    return {"cause": torch.randn(n, generator=seeded(9), dtype=torch.float64)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_composition_of_a_flow_returns_every_value(kind: str, dtype: torch.dtype) -> None:
    """Also those at an end of the domain and beyond it; nothing observed is clipped."""
    model = shuffle(FlowMechanism(KINDS[kind], [CAUSE])).to(dtype)
    value = torch.cat([torch.linspace(0.001, 9, 500, dtype=dtype), torch.tensor([2.0, 5.0, 1.0, 100.0], dtype=dtype)])
    pa = {"cause": torch.linspace(-3, 3, 504, dtype=dtype)}
    noise = model.abduct(value, pa)
    assert noise.eps.isfinite().all()
    assert torch.allclose(model.predict(noise, pa), value, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_gives_back_the_noise_that_made_a_value(kind: str) -> None:
    model = shuffle(FlowMechanism(KINDS[kind], [CAUSE]), 0.2)
    eps = torch.randn(N, generator=seeded(1), dtype=torch.float64)
    value = model.predict(model.sample_noise(N, seeded(1))._replace(eps=eps, offset=0 * eps), parents())
    low, high = (2, 5) if kind == "bounded" else (0 if kind == "positive" else -1e9, 1e9)
    assert (value >= low).all() and (value <= high).all()
    noise = model.abduct(value, parents())
    inside = noise.offset.abs() < 1e-9 * (
        1 + value.abs()
    )  # not values so near to an end of the domain that no number tells them from it
    assert inside.double().mean() > 0.95 and torch.allclose(noise.eps[inside], eps[inside], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_density_integrates_to_one(kind: str) -> None:
    model = shuffle(FlowMechanism(KINDS[kind], [CAUSE]), 0.3)
    low, high = {"continuous": (-60, 60), "positive": (1e-4, 60), "bounded": (2.001, 4.999)}[kind]
    x = torch.linspace(low, high, 200_001, dtype=torch.float64)
    density = model.log_prob(x, {"cause": torch.full_like(x, 0.7)}).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=0.01)
    assert density.min() >= 0


def test_classes_are_drawn_as_often_as_the_softmax_says() -> None:
    model = shuffle(CategoricalMechanism(CLASSES, [CAUSE]))
    pa = {"cause": torch.full((N,), 0.3, dtype=torch.float64)}
    drawn = model.predict(model.sample_noise(N, seeded(2)), pa)
    for value in range(4):
        share = model.log_prob(torch.tensor([value]), {"cause": pa["cause"][:1]}).exp().item()
        assert (drawn == value).double().mean().item() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("generator", [None, seeded(3)], ids=["median", "drawn"])
def test_composition_returns_every_class(generator: torch.Generator | None) -> None:
    for scale in (0.5, 100.0):
        model = shuffle(CategoricalMechanism(CLASSES, [CAUSE]), scale)
        value = torch.randint(4, (N,), generator=seeded(4))
        assert torch.equal(model.predict(model.abduct(value, parents(), generator), parents()), value)


def test_posterior_of_scores_averages_to_the_prior() -> None:
    """Scores abducted from what Gumbel noise made are Gumbel noise again, each of them, independently."""
    model = shuffle(CategoricalMechanism(CLASSES, [CAUSE]))
    value = model.predict(model.sample_noise(N, seeded(5)), parents())
    noise = model.abduct(value, parents(), seeded(6))
    u = (-(-noise).exp()).exp()  # the distribution function of Gumbel(0, 1)
    places = (torch.arange(N) + 0.5) / N
    for k in range(4):
        assert (u[:, k].sort().values - places).abs().max() < 1.9 / N**0.5  # Kolmogorov and Smirnov, p < 0.001
    correlation = torch.corrcoef(u.T) - torch.eye(4, dtype=u.dtype)
    assert correlation.abs().max() < 0.03


def test_a_counterfactual_class_stays_unless_another_overtakes() -> None:
    """When the cause raises one class's probability, nobody leaves that class (Oberst and Sontag, theorem 2)."""
    model = CategoricalMechanism(CLASSES, [CAUSE])
    shift = torch.tensor([0.0, 1.5, 0.0, 0.0])
    model.parameters_given = lambda pa, n: pa["cause"][:, None] * shift
    before, after = ({"cause": torch.full((N,), x)} for x in (0.0, 1.0))
    value = model.predict(model.sample_noise(N, seeded(7)), before)
    moved = model.predict(model.abduct(value, before, seeded(8)), after)
    assert (moved[value == 1] == 1).all() and (moved[moved != value] == 1).all()
    assert (moved == 1).double().mean().item() == pytest.approx(shift.softmax(0)[1].item(), abs=0.015)


@pytest.mark.parametrize("kind", ["continuous", "positive", "bounded", "categorical", "binary"])
def test_roots_and_children_are_fitted_and_calibrated(kind: str) -> None:
    """A hundred steps bring the ranks of fresh values near to uniform, and every parameter gets a gradient."""
    child = {**KINDS, "categorical": CLASSES, "binary": Variable("x", "binary", ("cause",), 0, 1)}[kind]
    root = Variable("cause", child.kind, (), child.low, child.high)

    def draw(seed: int) -> dict[str, Tensor]:
        noise = torch.randn(2, 4000, generator=seeded(seed))
        if kind in KINDS:
            line = torch.stack([noise[0] * 0.6, torch.tanh(noise[0]) + torch.nn.functional.softplus(noise[1])])
            values = {"continuous": line, "positive": line.exp(), "bounded": 2 + 3 * line.sigmoid()}[kind]
        else:
            values = torch.stack([noise[0], noise[0] + noise[1]]).mul(1 + int(child.high)).add(1).long()
            values = values.clamp(0, int(child.high))
        return {"cause": values[0], "x": values[1]}

    torch.manual_seed(0)
    model, data = LearnedAttributes([root, child]), draw(1)
    model.fit_scaling(data)
    optimiser = torch.optim.Adam(model.parameters())
    for step in range(1, 101):
        optimiser.param_groups[0]["lr"] = 0.05 * min(1.0, (20 / step) ** 0.5)
        optimiser.zero_grad()
        model(torch.empty(0), data)["loss"].backward()
        optimiser.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    fresh = draw(2)
    for name, pa in (("cause", {}), ("x", {"cause": fresh["cause"]})):
        mechanism = model.mechanisms[name]
        if kind in KINDS:
            rank = mechanism.rank(fresh[name], pa).sort().values
            assert (rank - (torch.arange(4000) + 0.5) / 4000).abs().max() < 0.04
        else:
            chance = mechanism.log_prob(torch.ones(4000, dtype=torch.int64), pa).exp()
            assert chance.mean().item() == pytest.approx((fresh[name] == 1).double().mean().item(), abs=0.03)


def test_learned_mechanisms_come_close_to_the_equations_of_morphomnist() -> None:
    """Fitted to draws of the known model: densities within 0.05 nats, and intensity under do(thickness) within 4."""
    known = get_graph("morphomnist")
    free = {
        name: {key: value for key, value in fields.items() if key != "equation"}
        for name, fields in known.spec["variables"].items()
    }
    free["intensity"] |= {"type": "bounded", "range": [64, 255]}
    graph, truth = parse({"variables": free}, Path("free.json")), known.scm()
    data, fresh = truth.sample(20_000, seeded(1)), truth.sample(4000, seeded(2))
    torch.manual_seed(0)
    model, draw = LearnedAttributes(graph.attributes), seeded(3)
    model.fit_scaling(data)
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    for step in range(1, 251):
        optimiser.param_groups[0]["lr"] = 2e-2 * min(1.0, (50 / step) ** 0.5)
        some = torch.randint(20_000, (512,), generator=draw)
        optimiser.zero_grad()
        model(torch.empty(0), {name: value[some] for name, value in data.items()})["loss"].backward()
        optimiser.step()
    with torch.no_grad():
        learned = {name: -model.mechanisms[name].log_prob(fresh[name], fresh).mean().item() for name in data}
        thickness = truth.mechanisms["thickness"].log_prob(fresh["thickness"])
        assert learned["thickness"] == pytest.approx(-thickness.mean().item(), abs=0.05)
        eps = truth.mechanisms["intensity"].abduct(fresh["intensity"].double(), fresh).eps
        share = (fresh["intensity"].double() - 64) / 191
        density = -(eps.square() + math.log(2 * math.pi)) / 2 - (0.5 * 191 * share * (1 - share)).log()
        assert learned["intensity"] == pytest.approx(-density.mean().item(), abs=0.05)
        assert learned["digit"] == pytest.approx(math.log(10), abs=0.05)
        assert learned["slant"] == pytest.approx(math.log(math.radians(3) * math.sqrt(2 * math.pi * math.e)), abs=0.05)
        do = {"thickness": fresh["thickness"].flip(0)}
        got = graph.scm(learned=model).counterfactual(fresh, do, seeded(4))["intensity"]
        assert (got - truth.counterfactual(fresh, do)["intensity"]).abs().mean() < 4
