"""A hierarchical variational autoencoder (De Sousa Ribeiro, Xia, Monteiro, Pawlowski and Glocker 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.baselines.autoencoder import Autoencoder, PixelHead, PixelSampling, Pyramid, level_sizes
from dscm.baselines.likelihood import gaussian_kl, sample_gaussian
from dscm.causal.draws import Source, draw_normal
from dscm.causal.mechanisms import Intervened, Parents
from dscm.causal.variables import Variable
from dscm.layers import ResBlock, zero_init
from dscm.settings import setting


class Rung(nn.Module):
    """One level of the ladder: a prior given the levels above, and a posterior that also sees the image.

    Args:
        above: channels of the level above.
        channels: the channels of this level.
        latent: channels of its latent variable.
        embedding: size of the parents' embedding.
    """

    def __init__(self, above: int, channels: int, latent: int, embedding: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(above, channels, 1)
        self.prior_block = ResBlock(channels, channels, embedding)
        self.prior = zero_init(nn.Conv2d(channels, 2 * latent, 1))
        self.posterior_block = ResBlock(2 * channels, channels, embedding)
        self.posterior = nn.Conv2d(channels, 2 * latent, 1)
        self.merge = nn.Conv2d(latent, channels, 1)
        self.leave = ResBlock(channels, channels, embedding)

    def descend(self, h: Tensor, side: int, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features at this level, and mean and log standard deviation of the prior."""
        h = self.prior_block(self.enter(F.interpolate(h, (side, side), mode="nearest")), embedding)
        mean, log_std = self.prior(F.silu(h)).chunk(2, dim=1)
        return h, mean, log_std.clamp(-5, 2)

    def infer(self, h: Tensor, feature: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the posterior, given the encoder's features at this level."""
        joint = self.posterior_block(torch.cat([h, feature], dim=1), embedding)
        mean, log_std = self.posterior(F.silu(joint)).chunk(2, dim=1)
        return mean, log_std.clamp(-7, 2)

    def merge_latent(self, h: Tensor, z: Tensor, embedding: Tensor) -> Tensor:
        """Return the features that the level below receives."""
        return self.leave(h + self.merge(z), embedding)


class LadderNoise(NamedTuple):
    """The exogenous noise of an image under an `HVAE`.

    ``u`` (B, C, H, W), as in `PixelNoise`; ``latents`` (B, L), the latent variables of all levels, coarsest first,
    empty in samples of the noise; ``residuals`` (B, L), the same standardised by their priors given the observed
    parents.
    """

    u: Tensor
    latents: Tensor
    residuals: Tensor


@dataclass(frozen=True)
class LadderSampling(PixelSampling):
    """How an HVAE abducts and predicts."""

    mix: float = setting(0.0, "π of an HVAE: weight of the latents' prior under the new parents.", low=0, high=1)


class HVAE(Autoencoder[LadderNoise]):
    """Generate an image from a ladder of Gaussian latents and pixel noise.

    Top-down, from the coarsest level: ``z_ℓ ~ N(μ_ℓ, σ_ℓ²)`` given ``z_{<ℓ}`` and pa, and in the end
    ``x = μ(z, pa) + σ(z, pa)·u``. Abduction infers the posterior means z_ℓ, their residuals
    ``e_ℓ = (z_ℓ − μ_ℓ(z_{<ℓ}, pa))/σ_ℓ(z_{<ℓ}, pa)`` and u. Prediction takes

        ``z*_ℓ = (1 − π)·z_ℓ + π·(μ_ℓ(z*_{<ℓ}, pa*) + σ_ℓ(z*_{<ℓ}, pa*)·e_ℓ)``:

    with π = 0, the default, latents are exogenous; with π = 1 they are mediators that follow the parents.
    Composition is exact for every π. Trained by ``β·Σ_ℓ KL(q_ℓ ‖ p_ℓ) − log p(x | z, pa)``.

    Args:
        parents, image_channels, size, likelihood, embedding: as in `Autoencoder`.
        latent: channels of the latent variable of each level.
        channels, multipliers, patch: as in `Pyramid`.
    """

    kind = "hvae"
    sampling: LadderSampling

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        latent: int = 4,
        likelihood: Literal["gaussian", "discretised"] = "discretised",
        embedding: int = 128,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        patch: int = 1,
    ) -> None:
        super().__init__(parents, image_channels, size, likelihood, embedding, LadderSampling())
        self.latent, self.sizes = latent, level_sizes(size, patch, len(multipliers))
        self.encoder = Pyramid(image_channels, embedding, channels, multipliers, patch)
        widths = [channels * multiplier for multiplier in multipliers]
        self.top = nn.Parameter(torch.zeros(widths[-1], self.sizes[-1], self.sizes[-1]))
        self.rungs = nn.ModuleList()  # coarsest first
        above = widths[-1]
        for width in reversed(widths):
            self.rungs.append(Rung(above, width, latent, embedding))
            above = width
        self.head = PixelHead(image_channels, above, patch)

    def _ladder(self) -> list[Rung]:
        """List the rungs, coarsest first."""
        return [cast(Rung, rung) for rung in self.rungs]

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> LadderNoise:
        """Infer the latents and u of images in [-1, 1], (B, C, H, W), given their parents, each (B,)."""
        embedding = self.embed(self.scaling(parents))
        h = self.top.expand(len(value), -1, -1, -1)
        latents: list[Tensor] = []
        residuals: list[Tensor] = []
        for rung, feature in zip(self._ladder(), reversed(self.encoder(value, embedding))):
            h, mean, log_std = rung.descend(h, feature.shape[-1], embedding)
            z = self.choose(*rung.infer(h, feature, embedding), generator)
            latents.append(z.flatten(1))
            residuals.append(((z - mean) * (-log_std).exp()).flatten(1))
            h = rung.merge_latent(h, z, embedding)
        return LadderNoise(self.residual(value, *self.head(h)), torch.cat(latents, dim=1), torch.cat(residuals, dim=1))

    def predict(self, noise: LadderNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Generate images (B, C, H, W), approximately in [-1, 1], from noise and parents, each (B,)."""
        embedding = self.embed(self.scaling(parents))
        h = self.top.expand(len(noise.u), -1, -1, -1)
        latents: list[Tensor | None] = [None] * len(self.sizes)
        if noise.latents.numel():
            latents = [*self._split(noise.latents)]
        for rung, side, kept, e in zip(self._ladder(), reversed(self.sizes), latents, self._split(noise.residuals)):
            h, mean, log_std = rung.descend(h, side, embedding)
            follows = mean + log_std.exp() * e
            z = follows if kept is None else torch.lerp(kept, follows, self.sampling.mix)
            h = rung.merge_latent(h, z, embedding)
        mean, log_std = self.head(h)
        return mean + log_std.exp() * noise.u

    def sample_noise(self, n: int, generator: Source) -> LadderNoise:
        """Draw residuals and u from N(0, I), from which the latents follow."""
        u = draw_normal((n, *self.shape), generator)
        e = draw_normal((n, sum(self._counts())), generator)
        return LadderNoise(u if self.pixel_noise else torch.zeros_like(u), torch.empty(0, device=u.device), e)

    def forward(self, value: Tensor, parents: Parents, generator: torch.Generator, beta: float) -> dict[str, Tensor]:
        """Compute the negative evidence lower bound of images in [-1, 1]; arguments and result as in `VAE`."""
        embedding = self.embed(self.scaling(parents))
        h, kl = self.top.expand(len(value), -1, -1, -1), value.new_zeros(())
        for rung, feature in zip(self._ladder(), reversed(self.encoder(value, embedding))):
            h, prior_mean, prior_log_std = rung.descend(h, feature.shape[-1], embedding)
            mean, log_std = rung.infer(h, feature, embedding)
            z = sample_gaussian(mean, log_std, generator)
            divergence = gaussian_kl(mean.float(), log_std.float(), prior_mean.float(), prior_log_std.float())
            kl = kl + divergence.sum(dim=(1, 2, 3)).mean()
            h = rung.merge_latent(h, z, embedding)
        pixels = self.pixel_log_prob(value, *(part.float() for part in self.head(h)))
        reconstruction = -pixels.sum(dim=(1, 2, 3)).mean()
        return {"loss": reconstruction + beta * kl, "kl": kl.detach(), "reconstruction": reconstruction.detach()}

    def _counts(self) -> list[int]:
        """Count the latent numbers of each level, coarsest first."""
        return [self.latent * side**2 for side in reversed(self.sizes)]

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Cut all latents, (B, L), into those of each level, (B, latent, side, side), coarsest first."""
        parts = flat.split(self._counts(), dim=1)
        return [part.unflatten(1, (self.latent, side, side)) for part, side in zip(parts, reversed(self.sizes))]
