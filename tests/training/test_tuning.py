"""Counterfactual fine-tuning: what it optimises, and what it does to a mechanism that ignores its parents."""

import pytest
import torch
from torch import Tensor

from dscm.graphs import get_graph
from dscm.oracle import Oracle
from dscm.training.tuning import CounterfactualTuning, intervene
from tests.support.image_mechanisms import make, observe, seeded


def make_tuning(name: str, bound: float = 0.0) -> CounterfactualTuning:
    graph = get_graph("morphomnist")
    torch.manual_seed(1)
    oracle = Oracle(graph.predicted, 1, channels=8).double().eval()
    tuning = CounterfactualTuning(make(name).requires_grad_(True), oracle, graph.scm()).double()
    tuning.bound.fill_(bound)
    return tuning


def run(tuning: CounterfactualTuning, n: int = 6) -> dict[str, Tensor]:
    data = observe(n)
    return tuning(data.pop("image"), data, seeded(), 1.0)


@pytest.mark.parametrize("name", ["vae", "hvae", "hvae-mediator"])
def test_gradients_reach_the_mechanism_and_the_multiplier_alone(name: str) -> None:
    tuning = make_tuning(name)
    run(tuning)["loss"].backward()
    with_gradient = {key for key, parameter in tuning.named_parameters() if parameter.grad is not None}
    assert with_gradient == {key for key, _ in tuning.named_parameters() if key.startswith(("mechanism", "raw"))}


@pytest.mark.parametrize("better", [True, False])
def test_multiplier_grows_while_the_bound_is_broken(better: bool) -> None:
    """A step down the gradient raises λ where −ELBO is above c, and lowers it, not below 0, where it is below."""
    tuning = make_tuning("vae", bound=1e3 if better else -1e3)
    for start in (0.5, 0.0):
        with torch.no_grad():
            tuning.raw_multiplier.fill_(start)
        before = run(tuning)["multiplier"]
        tuning.zero_grad()
        run(tuning)["loss"].backward()
        with torch.no_grad():
            tuning.raw_multiplier -= 1e-4 * tuning.raw_multiplier.grad
        after = run(tuning)["multiplier"]
        assert before == 10 * start
        assert after > before if not better else after < before if start else after == 0


def test_the_constraint_weighs_the_damped_multiplier() -> None:
    """The gradient is D·∇(counterfactual) + (λ + d·(F − c))·∇(−ELBO), by autograd of each alone."""
    tuning, data = make_tuning("vae"), observe(6)
    image, weight = data.pop("image"), tuning.mechanism.head.out.weight
    elbo = tuning.mechanism(image, data, seeded(), 1.0)["loss"]
    tuning.bound.fill_(elbo.item() / 64 - 0.02)
    with torch.no_grad():
        tuning.raw_multiplier.fill_(0.3)
    whole = torch.autograd.grad(run(tuning)["loss"], weight)[0]
    own = torch.autograd.grad(elbo, weight)[0]
    tuning.bound.fill_(elbo.item() / 64 + 0.03)  # where λ + d·(F − c) = 3 + 100·(−0.03) = 0
    free = torch.autograd.grad(run(tuning)["loss"], weight)[0]
    torch.testing.assert_close(whole - free, (3 + 100 * 0.02) * own, rtol=1e-4, atol=1e-6)


def test_loss_is_the_oracles_about_the_counterfactual() -> None:
    """With the parents of another image for all of them, as the causal model makes them, from sampled latents."""
    tuning, data = make_tuning("vae"), observe(6)
    image = data.pop("image")
    seen = {}
    tuning.oracle.register_forward_hook(lambda module, inputs, output: seen.update(image=inputs[0], parents=inputs[1]))
    terms = tuning(image, data, seeded(), 1.0)
    changed = [name for name in data if not torch.allclose(seen["parents"][name].double(), data[name].double())]
    assert changed in (["thickness", "intensity"], ["intensity"], ["digit", "slant"], ["slant"])
    generator, sampled = seeded(), tuning.mechanism.using(sample_code=True)
    tuning.mechanism(image, data, generator, 1.0)
    queries = [[variable.name] for variable in tuning.mechanism.scaling.variables]
    drawn = intervene(queries, tuning.attributes, data, generator)
    assert all(torch.equal(value, seen["parents"][name]) for name, value in drawn.items())
    wanted = sampled.predict(sampled.abduct(image, data, generator), seen["parents"])
    mean = tuning.mechanism.predict(tuning.mechanism.abduct(image, data), seen["parents"])
    torch.testing.assert_close(seen["image"], wanted)
    assert not torch.allclose(wanted, mean) and wanted.abs().max() <= 1
    torch.testing.assert_close(terms["counterfactual"], tuning.oracle(wanted, seen["parents"])["loss"])


def test_bound_is_the_loss_before_tuning() -> None:
    tuning, data = make_tuning("vae"), observe(6)
    tuning.set_bound(data.pop("image"), data, seeded(), 1.0)
    data = observe(6)
    loss = tuning.mechanism(data.pop("image"), data, seeded(), 1.0)["loss"]
    torch.testing.assert_close(tuning.bound, loss / 64)


def test_a_mechanism_learns_to_obey() -> None:
    """A few steps lower the oracle's loss on counterfactuals, and the mechanism's own loss is not above its bound."""
    tuning = make_tuning("vae")
    optimiser = torch.optim.Adam([p for p in tuning.parameters() if p.requires_grad], lr=1e-2)
    data = observe(16)
    image, losses = data.pop("image"), []
    tuning.set_bound(image, data, seeded(3), 1.0)
    for _ in range(30):
        terms = tuning(image, data, seeded(3), 1.0)
        losses.append(terms["counterfactual"].item())
        excess = (terms["reconstruction"] + terms["kl"]) / 64 - tuning.bound
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
    assert losses[-1] < 0.96 * losses[0] and excess < 0.05
