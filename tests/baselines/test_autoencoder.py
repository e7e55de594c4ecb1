"""What the autoencoders share: a sampled code, pixel noise, and the bound."""

import math

import pytest
import torch

from tests.support.image_mechanisms import EXACT, make, observe, seeded


@pytest.mark.parametrize("name", ["vae", "hvae", "hvae-mediator", "vci"])
def test_a_sampled_code_comes_from_the_generator(name: str) -> None:
    """Another seed abducts other latents, about the mean ones; composition is as exact as before."""
    model, obs = make(name), observe()
    with torch.no_grad():
        mean = model.abduct(obs["image"], obs).latents
        model = model.using(sample_code=True)
        one, same, other = (model.abduct(obs["image"], obs, seeded(seed)) for seed in (1, 1, 2))
        again = model.predict(one, obs)
    assert torch.equal(one.latents, same.latents)
    assert not torch.equal(one.latents, other.latents) and not torch.equal(one.latents, mean)
    assert (again - obs["image"]).abs().max() <= EXACT.get(name, math.inf)


@pytest.mark.parametrize("name", ["vae", "hvae", "hvae-residuals"])
def test_without_pixel_noise_composition_is_the_reconstruction(name: str) -> None:
    model, obs = make(name).using(pixel_noise=False), observe()
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        again = model.predict(noise, obs)
    assert not noise.u.any() and (again - obs["image"]).abs().mean() > 0.01


@pytest.mark.parametrize("name", ["vae", "hvae", "hvae-mediator"])
def test_the_bound_is_that_of_the_distributions(name: str) -> None:
    """The KL that training reports is the sum of torch's, over every latent, of a batch of one image."""
    model, obs = make(name), observe(1)
    with torch.no_grad():
        terms = model(obs["image"], obs, seeded(4), beta=0.7)
        embedding = model.embed(model.scaling(obs))
        if name == "vae":
            mean, log_std = model._encode(obs["image"], embedding)
            pairs = [(mean, log_std, torch.zeros_like(mean), torch.zeros_like(mean))]
        else:
            h, s, pairs, generator = model.top[None], model.top[None], [], seeded(4)
            for rung, feature in zip(model.rungs, model._features(obs["image"], embedding)):
                h, s, prior = rung.descend(h, s, embedding)
                mean, log_std = rung.infer(h, feature, embedding)
                pairs.append((mean, log_std, *prior))
                noise = torch.randn(mean.shape, generator=generator)
                h, s = rung.merge_latent(h, s, mean + log_std.exp() * noise, embedding)
    wanted = 0.0
    for mean, log_std, prior, prior_log_std in pairs:
        q, p = (torch.distributions.Normal(m, s.exp()) for m, s in ((mean, log_std), (prior, prior_log_std)))
        wanted += torch.distributions.kl_divergence(q, p).sum().item()
    assert terms["kl"].item() == pytest.approx(wanted, rel=1e-6)
    assert terms["loss"].item() == pytest.approx(terms["reconstruction"].item() + 0.7 * wanted, rel=1e-6)
