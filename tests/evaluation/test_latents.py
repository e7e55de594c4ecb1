"""The unconditional autoencoder, and the divergence of its latents."""

import torch
from torch.distributions import Normal, kl_divergence

from dscm import assets
from dscm.data.scaling import to_levels, to_signed
from dscm.evaluation.latents import fit_latents, latent_distance, pad


def test_latent_distance_is_the_mean_divergence_in_that_order() -> None:
    generator = torch.Generator().manual_seed(0)
    r, x = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64)
    (mr, sr), (mx, sx) = r.chunk(2, dim=1), x.chunk(2, dim=1)
    expected = kl_divergence(Normal(mr, sr.exp()), Normal(mx, sx.exp())).mean(dim=1)
    torch.testing.assert_close(latent_distance(r, x), expected)
    assert latent_distance(x, x).abs().max() < 1e-12
    assert latent_distance(r[None], x[:, None]).shape == (3, 3)


def test_images_are_padded_with_black() -> None:
    levels = torch.full((2, 1, 28, 28), 255, dtype=torch.uint8)
    for images, black, white in ((levels, 0, 255), (torch.ones(2, 1, 28, 28), -1, 1)):
        padded = pad(images)
        assert padded.shape == (2, 1, 32, 32) and padded.dtype == images.dtype
        assert (padded[..., 2:30, 2:30] == white).all()
        assert (padded == white).sum() == 2 * 28**2 and (padded == black).sum() == 2 * (32**2 - 28**2)


def test_fit_lowers_the_bound_and_keeps_to_its_seed() -> None:
    """And leaves PyTorch's own generator alone, though gradients are off around it."""
    images = pad(to_levels(assets.read_observation(64)["image"]))
    state = torch.get_rng_state()
    with torch.no_grad():
        first, fitted, again = (fit_latents(images, seed=1, steps=steps) for steps in (0, 10, 10))
        assert torch.equal(torch.get_rng_state(), state)
        x = to_signed(images[:8])
        assert fitted.embed(x).shape == (8, 32) and torch.equal(fitted.embed(x), again.embed(x))
        before, after = (model(x, torch.Generator().manual_seed(0)).item() for model in (first, fitted))
    assert after < before - 50
