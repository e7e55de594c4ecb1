"""VCI: its objective, and that picture and critic learn apart."""

from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from dscm import checkpoint
from dscm.errors import InputError
from dscm.graphs import get_graph
from tests.support.image_mechanisms import make, observe, seeded


def test_the_picture_and_the_critic_learn_apart() -> None:
    """The adversary moves encoder and decoder, never the critic; the critic's loss moves the critic alone."""
    model, obs = make("vci").train(), observe(8)
    terms = {}
    for adversary in (0.0, 50.0):
        model.zero_grad()
        model.omega = (1.0, adversary, 0.0)
        model(obs["image"], obs, generator=seeded(3))["loss"].backward()
        terms[adversary] = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    for key in terms[0.0]:
        same = torch.allclose(terms[0.0][key], terms[50.0][key], rtol=1e-6, atol=1e-12)
        if key.startswith("critic."):
            assert same, key
    decoder = [key for key in terms[0.0] if key.startswith("head.")]
    assert not all(torch.allclose(terms[0.0][key], terms[50.0][key]) for key in decoder)


def test_the_objective_is_the_published_one() -> None:
    """Likelihood, adversary and consistency with their weights, the critic's loss apart; nothing to a prior."""
    model, obs = make("vci"), observe(5)
    model.omega, image = (2.0, 3.0, 5.0), obs["image"]
    generator = seeded(3)
    with torch.no_grad():
        terms = model(image, obs, generator=seeded(3))
        pa = model.scaling(obs)
        other = pa[torch.rand(5, generator=generator).argsort()]
        mean, log_std = model._encode(image, model.embed(pa))
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
        likelihood = model.pixel_log_prob(image, *model._decode(z, model.embed(pa))).sum(dim=(1, 2, 3)).mean()
        changed = model._decode(z, model.embed(other))[0]
        again, again_log_std = model._encode(changed, model.embed(other))
        kl = kl_divergence(Normal(mean, log_std.exp()), Normal(again, again_log_std.exp())).sum(dim=1).mean()
        fake, real = model.critic(changed, other), model.critic(image, pa)
        adversary = F.softplus(-fake).mean()
        critic = (F.softplus(-real) + F.softplus(fake)).mean() / 2
    published = -2 * likelihood / 64 + 3 * adversary + 5 * kl / 4
    assert terms["loss"].item() == pytest.approx((32 * published + 0.64 * critic).item(), rel=1e-5)
    assert set(terms) == {"loss", "reconstruction", "consistency", "adversary", "critic"}


def test_a_checkpoint_of_the_old_objective_is_refused(tmp_path: Path) -> None:
    """It has no ω, and its codes were trained towards N(0, I)."""
    config = {"mechanism": "vci", "size": 8, "code_dim": 4, "embedding": 8, "channels": 8, "multipliers": [1, 2]}
    config |= {"critic": {"channels": 8, "multipliers": [1, 2], "patch": 1}}
    graph = get_graph("morphomnist")
    model = checkpoint.build("image", graph, config | {"omega": [10, 0.02, 0.01]})
    for kept in ({"omega": [10, 0.02, 0.01]}, {}):
        checkpoint.save(tmp_path / "old.pt", "image", model, graph, config | kept, {})
        if kept:
            assert checkpoint.restore_image(tmp_path / "old.pt", torch.device("cpu")).model.kind == "vci"
    with pytest.raises(InputError, match="old.pt: the weights do not fit the model that the checkpoint describes"):
        checkpoint.restore_image(tmp_path / "old.pt", torch.device("cpu"))
