"""The embedding of the second benchmark's minimality: an unconditional variational autoencoder of its digits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.baselines.likelihood import discretised_log_prob, gaussian_kl, sample_gaussian
from dscm.data.scaling import to_signed

LATENTS, HIDDEN, CHANNELS = 16, 128, 16
SIZE, COARSEST = 32, 4  # sides of an image and of its coarsest features
STEPS, BATCH, RATE = 4000, 64, 1e-3


class LatentAutoencoder(nn.Module):
    """Encode grey 32×32 images as Gaussians over 16 latent variables (Melistas et al. 2024; half their channels)."""

    def __init__(self) -> None:
        super().__init__()
        flat = CHANNELS * COARSEST**2
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, CHANNELS, 5, 2, 2), nn.SiLU()),
            *(nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1), nn.SiLU()),
            *(nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1), nn.SiLU(), nn.Flatten()),
            *(nn.Linear(flat, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 2 * LATENTS)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(LATENTS, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, flat), nn.SiLU()),
            nn.Unflatten(1, (CHANNELS, COARSEST, COARSEST)),
            *(nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, 2, 1), nn.SiLU()),
            *(nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, 2, 1), nn.SiLU()),
            nn.ConvTranspose2d(CHANNELS, 2, 4, 2, 1),
        )

    def embed(self, x: Tensor) -> Tensor:
        """Return mean and log standard deviation of ``q(z | x)`` of images in [-1, 1], (B, 1, 32, 32); (B, 32)."""
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        return torch.cat([mean, log_std.clamp(-7, 2)], dim=1)

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the negative evidence lower bound of images, in nats per image, ()."""
        mean, log_std = self.embed(x).chunk(2, dim=1)
        pixel_mean, pixel_log_std = self.decoder(sample_gaussian(mean, log_std, generator)).chunk(2, dim=1)
        pixels = discretised_log_prob(x, pixel_mean, pixel_log_std.clamp(-4.5, 1))
        kl = gaussian_kl(mean, log_std, torch.zeros_like(mean), torch.zeros_like(mean))
        return (kl.sum() - pixels.sum()) / len(x)


def latent_distance(r: Tensor, x: Tensor) -> Tensor:
    """Return ``KL(q(z | r) ‖ q(z | x))/d`` of embeddings, (…, 2d) and (…, 2d): means, then log standard deviations."""
    r, x = r.double(), x.double()
    return gaussian_kl(*r.chunk(2, dim=-1), *x.chunk(2, dim=-1)).mean(dim=-1)


@torch.enable_grad()
def fit_latents(images: Tensor, seed: int, steps: int = STEPS) -> LatentAutoencoder:
    """Fit the autoencoder to training images; without their attributes.

    Args:
        images: uint8, (N, 1, 32, 32).
        seed: the seed of weights, batches and latents.
        steps: of AdamW.

    Returns:
        The autoencoder, whose ``embed`` is the embedding.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the weights
        model = LatentAutoencoder().to(images.device)
    generator = torch.Generator(images.device).manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), RATE)
    for _ in range(steps):
        part = torch.randint(len(images), (BATCH,), generator=generator, device=images.device)
        loss = model(to_signed(images[part]), generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 350.0)
        optimiser.step()
    return model.eval().requires_grad_(False)


def pad(images: Tensor) -> Tensor:
    """Pad images to 32×32 with black: zeros of uint8, −1 of images in [-1, 1]; (N, C, H, W)."""
    black = 0.0 if images.dtype == torch.uint8 else -1.0
    width, height = SIZE - images.shape[-1], SIZE - images.shape[-2]
    return F.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2), value=black)
