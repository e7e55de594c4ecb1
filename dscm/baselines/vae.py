"""The conditional variational autoencoder of deep structural causal models (Pawlowski, Castro and Glocker 2020)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.baselines.autoencoder import (
    Autoencoder,
    CodeSampling,
    PixelHead,
    PixelNoise,
    PixelSampling,
    Pyramid,
    level_sizes,
)
from dscm.baselines.likelihood import gaussian_kl, sample_gaussian
from dscm.causal.draws import Source, draw_normal
from dscm.causal.mechanisms import Intervened, Parents
from dscm.causal.variables import Variable
from dscm.layers import ResBlock


class VAE(Autoencoder[PixelNoise]):
    """Generate an image from a Gaussian code z and pixel noise u: ``x = μ(z, pa) + σ(z, pa)·u``.

    Abduction: z is the mean of ``q(z | x, pa)``, or a sample, then ``u = (x − μ(z, pa))/σ(z, pa)``. Prediction
    decodes both and clamps, ``x* = clamp(μ(z, pa*) + σ(z, pa*)·u, −1, 1)``, so composition is exact. Trained by
    ``β·KL(q(z | x, pa) ‖ N(0, I)) − log p(x | z, pa)`` (paper, section 3: amortised, explicit mechanisms).

    Args:
        parents, image_channels, size, likelihood, embedding: as in `Autoencoder`.
        code_dim: size of z.
        channels, multipliers, patch: the sizes of encoder and decoder, as in `Pyramid`.
        sampling: the settings.
    """

    kind = "vae"

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        code_dim: int = 16,
        likelihood: Literal["gaussian", "discretised"] = "discretised",
        embedding: int = 128,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        patch: int = 1,
        sampling: CodeSampling = PixelSampling(),
    ) -> None:
        super().__init__(parents, image_channels, size, likelihood, embedding, sampling)
        self.code_dim, self.sizes = code_dim, level_sizes(size, patch, len(multipliers))
        self.encoder = Pyramid(image_channels, embedding, channels, multipliers, patch)
        self.coarsest = (channels * multipliers[-1], self.sizes[-1], self.sizes[-1])
        flat = self.coarsest[0] * self.sizes[-1] ** 2
        self.to_code = nn.Linear(flat, 2 * code_dim)
        self.from_code = nn.Linear(code_dim + embedding, flat)
        self.decoder = nn.ModuleList()
        current = self.coarsest[0]
        for multiplier in reversed(multipliers):
            self.decoder.append(ResBlock(current, channels * multiplier, embedding))
            current = channels * multiplier
        self.head = PixelHead(image_channels, current, patch)

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> PixelNoise:
        """Infer z and u of images in [-1, 1], (B, C, H, W), given their parents, each (B,)."""
        embedding = self.embed(self.scaling(parents))
        z = self.choose(*self._encode(value, embedding), generator)
        return PixelNoise(self.residual(value, *self._decode(z, embedding)), z)

    def predict(self, noise: PixelNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Generate images (B, C, H, W) in [-1, 1] from noise and parents, each (B,)."""
        return self.render(*self._decode(noise.latents, self.embed(self.scaling(parents))), noise.u)

    def sample_noise(self, n: int, generator: Source) -> PixelNoise:
        """Draw z and, with pixel noise, u from N(0, I)."""
        u = draw_normal((n, *self.shape), generator)
        z = draw_normal((n, self.code_dim), generator)
        return PixelNoise(u if self.pixel_noise else torch.zeros_like(u), z)

    def forward(self, value: Tensor, parents: Parents, generator: torch.Generator, beta: float) -> dict[str, Tensor]:
        """Compute the negative evidence lower bound of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: each (B,).
            generator: source of the codes.
            beta: weight of the KL term.

        Returns:
            Scalars in nats: ``loss``, ``kl`` and ``reconstruction``, the negative log-likelihood.
        """
        embedding = self.embed(self.scaling(parents))
        mean, log_std = self._encode(value, embedding)
        zero = torch.zeros_like(mean)
        kl = gaussian_kl(mean, log_std, zero, zero).sum(dim=1).mean()
        reconstruction = self._reconstruct(value, sample_gaussian(mean, log_std, generator), embedding)
        return {"loss": reconstruction + beta * kl, "kl": kl.detach(), "reconstruction": reconstruction.detach()}

    def _reconstruct(self, value: Tensor, z: Tensor, embedding: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of images (B, C, H, W) given codes (B, code_dim), in nats."""
        pixels = self.pixel_log_prob(value, *(part.float() for part in self._decode(z, embedding)))
        return -pixels.sum(dim=(1, 2, 3)).mean()

    def _encode(self, value: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of ``q(z | x, pa)``, both (B, code_dim)."""
        features = self.encoder(value, embedding)[-1]
        mean, log_std = self.to_code(F.silu(features).flatten(1)).chunk(2, dim=1)
        return mean, log_std.clamp(-7, 2)

    def _decode(self, z: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of every pixel, both (B, C, H, W)."""
        h = self.from_code(torch.cat([z, embedding], dim=1)).unflatten(1, self.coarsest)
        for block, side in zip(self.decoder, reversed(self.sizes)):
            h = block(F.interpolate(h, (side, side), mode="nearest"), embedding)
        return self.head(h)
