"""The hierarchical VAEs: which priors see the parents, and how their latents answer an intervention."""

import pytest
import torch
from torch import Tensor

from dscm.baselines.hvae import HVAE, Gaussian, LadderNoise
from dscm.errors import InputError
from tests.support.image_mechanisms import make, observe, seeded


def priors(model: HVAE, obs: dict[str, Tensor], latents: Tensor) -> list[Gaussian]:
    """The prior of every level, given these latents above it."""
    embedding, found = model.embed(model.scaling(obs)), []
    h = s = model.top.expand(len(latents), -1, -1, -1)
    for rung, z in zip(model._ladder(), model._split(latents)):
        h, s, prior = rung.descend(h, s, embedding)
        found.append(prior)
        h, s = rung.merge_latent(h, s, z, embedding)
    return found


def change(obs: dict[str, Tensor]) -> dict[str, Tensor]:
    return obs | {"thickness": obs["thickness"] + 1}


@pytest.mark.parametrize(("name", "alike"), [("hvae", True), ("hvae-mediator", False)])
def test_only_the_mediators_prior_sees_the_parents(name: str, alike: bool) -> None:
    """Exogenous levels have one prior for all parents; pixels see them in both."""
    model, obs = make(name), observe()
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        one, two = priors(model, obs, noise.latents), priors(model, change(obs), noise.latents)
        images = model.predict(noise, obs), model.predict(noise, change(obs))
    assert all(torch.equal(a.mean, b.mean) and torch.equal(a.log_std, b.log_std) for a, b in zip(one, two)) == alike
    assert not torch.equal(*images)


def test_the_top_level_is_one_pixel() -> None:
    model = make("hvae")
    assert model.sizes[-1] == 1 and model._counts()[0] == model.latent
    assert [rung.side for rung in model._ladder()] == list(reversed(model.sizes))


def test_the_priors_depend_on_the_levels_above() -> None:
    model, obs = make("hvae"), observe()
    latents = torch.randn(3, sum(model._counts()), generator=seeded(1), dtype=torch.float64)
    moved = latents.clone()
    moved[:, : model.latent] += 1
    with torch.no_grad():
        (top, *below), (same, *others) = priors(model, obs, latents), priors(model, obs, moved)
    assert torch.equal(top.mean, same.mean)
    assert not any(torch.equal(a.mean, b.mean) for a, b in zip(below, others))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_mixture_weighs_means_and_variances(alpha: float) -> None:
    """N(α·μ_q + (1 − α)·μ_p, α·σ_q² + (1 − α)·σ_p²), on numbers by hand."""
    q, p = (Gaussian(torch.tensor(m).double(), torch.tensor(s).double().log()) for m, s in ((2.0, 0.5), (-1.0, 2.0)))
    mixed = make("hvae-mediator").using(mix=alpha).combine(q, p)
    assert mixed.mean.item() == pytest.approx(2 * alpha - (1 - alpha))
    assert mixed.log_std.exp().item() ** 2 == pytest.approx(0.25 * alpha + 4 * (1 - alpha))


def test_of_the_mixture_only_the_posterior_composes() -> None:
    """With α = 1 the latents stay and composition is exact; the published α = 1/2 gives another image."""
    model, obs = make("hvae-mediator"), observe()
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        errors = [
            (model.using(mix=alpha).predict(noise, obs) - obs["image"]).abs().max().item() for alpha in (1.0, 0.5)
        ]
    assert errors[0] < 1e-9 and errors[1] > 1e-4


def test_the_mixture_carries_the_noise_of_the_posterior() -> None:
    """The noise of a sampled latent is (z − μ_q)/σ_q; with α = 0 it is that of a sample from the new prior."""
    model, obs = make("hvae-mediator").using(sample_code=True, mix=0.0), observe()
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs, seeded(1))
        empty = noise.eps.new_empty((3, 0))
        follows = (
            model.predict(noise, change(obs)),
            model.predict(LadderNoise(noise.u, empty, empty, noise.eps), change(obs)),
        )
    assert noise.eps.std().item() == pytest.approx(1, abs=0.15)
    torch.testing.assert_close(*follows)


def test_residuals_follow_the_prior_of_the_new_parents() -> None:
    """They standardise the abducted latents, so the observed parents give the latents back, and new ones move them."""
    model, obs = make("hvae-residuals"), observe()
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        kept = model.using(residuals=False).abduct(obs["image"], obs)
        by_hand = [
            prior.standardise(z).flatten(1)
            for prior, z in zip(priors(model, obs, kept.latents), model._split(kept.latents))
        ]
        moved = model.predict(noise, change(obs)), model.using(mix=1.0).predict(kept, change(obs))
    torch.testing.assert_close(noise.eps, torch.cat(by_hand, dim=1))
    assert not noise.means.numel() and not torch.equal(*moved)


def test_the_exogenous_prior_has_nothing_to_mix() -> None:
    with pytest.raises(InputError, match="mix: not a setting of hvae"):
        make("hvae").using(mix=0.5)
