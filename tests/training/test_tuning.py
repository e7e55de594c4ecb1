"""Counterfactual fine-tuning: what it optimises, and what it does to a mechanism that ignores its parents."""

import pytest
import torch
from torch import Tensor

from dscm.graphs import get_graph
from dscm.oracle import Oracle
from dscm.training.tuning import CounterfactualTuning
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


@pytest.mark.parametrize("name", ["vae", "hvae"])
def test_gradients_reach_the_mechanism_and_the_multiplier_alone(name: str) -> None:
    tuning = make_tuning(name)
    run(tuning)["loss"].backward()
    with_gradient = {key for key, parameter in tuning.named_parameters() if parameter.grad is not None}
    assert with_gradient == {key for key, _ in tuning.named_parameters() if key.startswith(("mechanism", "raw"))}


@pytest.mark.parametrize("better", [True, False])
def test_multiplier_grows_while_the_bound_is_broken(better: bool) -> None:
    """A step down the gradient raises λ where −ELBO is above c, and lowers it where it is below."""
    tuning = make_tuning("vae", bound=1e9 if better else -1e9)
    before = run(tuning)["multiplier"]
    run(tuning)["loss"].backward()
    with torch.no_grad():
        tuning.raw_weight -= 1e-12 * tuning.raw_weight.grad
    assert (run(tuning)["multiplier"] < before) == better


def test_loss_is_the_oracles_about_the_counterfactual() -> None:
    """With the parents of another image for all of them, as the causal model makes them."""
    tuning, data = make_tuning("vae"), observe(6)
    image = data.pop("image")
    seen = {}
    tuning.oracle.register_forward_hook(lambda module, inputs, output: seen.update(image=inputs[0], parents=inputs[1]))
    terms = tuning(image, data, seeded(), 1.0)
    changed = [name for name in data if not torch.allclose(seen["parents"][name].double(), data[name].double())]
    assert changed in (["thickness", "intensity"], ["intensity"], ["digit", "slant"], ["slant"])
    full = get_graph("morphomnist").scm(tuning.mechanism)
    wanted = full.counterfactual({**data, "image": image}, {name: seen["parents"][name] for name in data})
    torch.testing.assert_close(seen["image"], wanted["image"])
    torch.testing.assert_close(terms["counterfactual"], tuning.oracle(wanted["image"], seen["parents"])["loss"])


def test_bound_leaves_some_slack() -> None:
    tuning, data = make_tuning("vae"), observe(6)
    tuning.set_bound(data.pop("image"), data, seeded(), 1.0)
    data = observe(6)
    loss = tuning.mechanism(data.pop("image"), data, seeded(), 1.0)["loss"]
    torch.testing.assert_close(tuning.bound, loss + 0.02 * loss.abs())


def test_a_mechanism_learns_to_obey() -> None:
    """A few steps lower the oracle's loss on counterfactuals."""
    tuning = make_tuning("vae", bound=1e9)
    optimiser = torch.optim.Adam([p for p in tuning.parameters() if p.requires_grad], lr=1e-2)
    data = observe(16)
    image, losses = data.pop("image"), []
    for _ in range(26):
        terms = tuning(image, data, seeded(3), 1.0)
        losses.append(terms["counterfactual"].item())
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]
