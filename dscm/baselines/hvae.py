"""Hierarchical variational autoencoders (De Sousa Ribeiro, Xia, Monteiro, Pawlowski and Glocker 2023).

`HVAE` has the exogenous prior, the default of the published code; `MediatorHVAE` the conditional one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.baselines.autoencoder import Autoencoder, CodeSampling, PixelHead, PixelSampling, Pyramid, level_sizes
from dscm.baselines.likelihood import gaussian_kl, sample_gaussian
from dscm.causal.draws import Source, draw_normal
from dscm.causal.mechanisms import Intervened, Parents
from dscm.causal.variables import Variable
from dscm.layers import ResBlock, zero_init
from dscm.settings import setting


class Gaussian(NamedTuple):
    """A Gaussian of independent elements: its mean and log standard deviation."""

    mean: Tensor
    log_std: Tensor

    def at(self, eps: Tensor) -> Tensor:
        """Return ``mean + std·ε``."""
        return self.mean + self.log_std.exp() * eps

    def standardise(self, z: Tensor) -> Tensor:
        """Return ``(z − mean)/std``."""
        return (z - self.mean) * (-self.log_std).exp()


class Rung(nn.Module):
    """One level of the ladder: a prior given the latents above, and a posterior that also sees image and parents.

    Two features descend: ``s``, from which the prior is read, and ``h``, which also carries the parents to the pixels.

    Args:
        above, prior_above: channels of h and s as the level above leaves them.
        channels: the channels of this level.
        latent: channels of its latent variable.
        embedding: size of the parents' embedding.
        side: height and width of this level.
        conditional: whether the prior sees the parents.
    """

    def __init__(
        self, above: int, prior_above: int, channels: int, latent: int, embedding: int, side: int, conditional: bool
    ) -> None:
        super().__init__()
        self.side = side
        kernel = 1 if side == 1 else 3
        self.bias = nn.Parameter(torch.zeros(channels, side, side))  # tells apart places that are one place above
        self.enter = nn.Conv2d(above, channels, 1)
        self.enter_prior = nn.Conv2d(prior_above, channels, 1)
        self.prior_block = ResBlock(channels, channels, embedding if conditional else 0, kernel=kernel)
        self.prior = zero_init(nn.Conv2d(channels, 2 * latent, 1))
        self.posterior_block = ResBlock(2 * channels, channels, embedding, kernel=kernel)
        self.posterior = nn.Conv2d(channels, 2 * latent, 1)
        self.merge = nn.Conv2d(latent, channels, 1)
        self.leave = ResBlock(channels, channels, embedding, kernel=kernel)

    def descend(self, h: Tensor, s: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor, Gaussian]:
        """Return both features at this level, (B, channels, side, side), and the prior of its latent variable."""
        s, h = (F.interpolate(feature, (self.side, self.side), mode="nearest") for feature in (s, h))
        s = self.prior_block(self.enter_prior(s) + self.bias, embedding)
        h = self.enter(h) + self.bias + s
        mean, log_std = self.prior(F.silu(s)).chunk(2, dim=1)
        return h, s, Gaussian(mean, log_std.clamp(-5, 2))

    def infer(self, h: Tensor, feature: Tensor, embedding: Tensor) -> Gaussian:
        """Return the posterior, given the encoder's features at this level."""
        joint = self.posterior_block(torch.cat([h, feature], dim=1), embedding)
        mean, log_std = self.posterior(F.silu(joint)).chunk(2, dim=1)
        return Gaussian(mean, log_std.clamp(-7, 2))

    def merge_latent(self, h: Tensor, s: Tensor, z: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return both features that the level below receives."""
        return self.leave(h + self.merge(z), embedding), torch.cat([s, z], dim=1)


class LadderNoise(NamedTuple):
    """The exogenous noise of an image under an `HVAE`.

    ``u`` (B, C, H, W), as in `PixelNoise`. Of the latents of all levels, coarsest first and flattened, (B, L):
    ``eps``, their standardised noise; ``means`` and ``log_stds`` of the posteriors that it standardises, (B, 0) where
    it standardises the priors instead, as in samples.
    """

    u: Tensor
    means: Tensor
    log_stds: Tensor
    eps: Tensor

    @property
    def latents(self) -> Tensor:
        """Return the abducted latents, ``mean + std·ε``, (B, L)."""
        return self.means + self.log_stds.exp() * self.eps


class HVAE(Autoencoder[LadderNoise]):
    """Generate an image from a ladder of exogenous latents and pixel noise.

    The prior is ``p(z) = Π_ℓ p(z_ℓ | z_{<ℓ})``, from a level of one pixel down, and independent of the parents;
    ``x = μ(z, pa) + σ(z, pa)·u``. Abduction infers ``z_ℓ ~ q(z_ℓ | z_{<ℓ}, x, pa)``, by default its mean where the
    published code samples, and ``u = (x − μ(z, pa))/σ(z, pa)``. Prediction keeps both,
    ``x* = clamp(μ(z, pa*) + σ(z, pa*)·u, −1, 1)``, so composition is exact. Trained by
    ``β·Σ_ℓ KL(q(z_ℓ | z_{<ℓ}, x, pa) ‖ p(z_ℓ | z_{<ℓ})) − log p(x | z, pa)`` (paper, section 3.2; its code,
    ``cond_prior=False`` and ``q_correction=False``).

    Unlike the published network, this one has one block a level, and its encoder sees the parents, too.

    Args:
        parents, image_channels, size, likelihood, embedding: as in `Autoencoder`.
        latent: channels of the latent variable of each level.
        channels, multipliers, patch: as in `Pyramid`; the level of one pixel comes on top of these.
    """

    conditional = False

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        latent: int = 16,
        likelihood: Literal["gaussian", "discretised"] = "discretised",
        embedding: int = 128,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        patch: int = 1,
        sampling: CodeSampling = PixelSampling(),
    ) -> None:
        super().__init__(parents, image_channels, size, likelihood, embedding, sampling)
        self.latent, self.sizes = latent, [*level_sizes(size, patch, len(multipliers)), 1]
        self.encoder = Pyramid(image_channels, embedding, channels, multipliers, patch)
        widths = [channels * multiplier for multiplier in (*multipliers, multipliers[-1])]
        self.summary = ResBlock(widths[-1], widths[-1], embedding, kernel=1)
        self.top = nn.Parameter(torch.zeros(widths[-1], 1, 1))
        self.rungs = nn.ModuleList()  # coarsest first
        above = prior_above = widths[-1]
        for width, side in zip(reversed(widths), reversed(self.sizes)):
            self.rungs.append(Rung(above, prior_above, width, latent, embedding, side, self.conditional))
            above, prior_above = width, width + latent
        self.head = PixelHead(image_channels, above, patch)

    @property
    def kind(self) -> str:
        """Name the mechanism."""
        return "hvae"

    def combine(self, posterior: Gaussian, prior: Gaussian) -> Gaussian:
        """Return the distribution of a counterfactual latent: here the posterior, whatever the new parents."""
        return posterior

    def record(self, posterior: Gaussian, prior: Gaussian, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means, log standard deviations and noise of a level's latents, as in `LadderNoise`, from q and ε."""
        return posterior.mean.flatten(1), posterior.log_std.flatten(1), eps.flatten(1)

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> LadderNoise:
        """Infer the latents and u of images in [-1, 1], (B, C, H, W), given their parents, each (B,)."""
        embedding = self.embed(self.scaling(parents))
        h = s = self.top.expand(len(value), -1, -1, -1)
        levels = []
        for rung, feature in zip(self._ladder(), self._features(value, embedding)):
            h, s, prior = rung.descend(h, s, embedding)
            posterior = rung.infer(h, feature, embedding)
            eps = torch.zeros_like(posterior.mean)
            if generator is not None and self.sampling.sample_code:
                eps = draw_normal(eps.shape, generator).to(eps.dtype)
            levels.append(self.record(posterior, prior, eps))
            h, s = rung.merge_latent(h, s, posterior.at(eps), embedding)
        means, log_stds, noise = (torch.cat(part, dim=1) for part in zip(*levels))
        return LadderNoise(self.residual(value, *self.head(h)), means, log_stds, noise)

    def predict(self, noise: LadderNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Generate images (B, C, H, W) in [-1, 1] from noise and parents, each (B,)."""
        embedding = self.embed(self.scaling(parents))
        h = s = self.top.expand(len(noise.u), -1, -1, -1)
        known = noise.means.shape[1] > 0
        posteriors = zip(self._split(noise.means), self._split(noise.log_stds)) if known else iter(())
        for rung, eps in zip(self._ladder(), self._split(noise.eps)):
            h, s, prior = rung.descend(h, s, embedding)
            latent = self.combine(Gaussian(*next(posteriors)), prior) if known else prior
            h, s = rung.merge_latent(h, s, latent.at(eps), embedding)
        mean, log_std = self.head(h)
        return self.render(mean, log_std, noise.u)

    def sample_noise(self, n: int, generator: Source) -> LadderNoise:
        """Draw u and the noise of the priors from N(0, I)."""
        u = draw_normal((n, *self.shape), generator)
        eps = draw_normal((n, sum(self._counts())), generator)
        empty = eps.new_empty((n, 0))
        return LadderNoise(u if self.pixel_noise else torch.zeros_like(u), empty, empty, eps)

    def forward(self, value: Tensor, parents: Parents, generator: torch.Generator, beta: float) -> dict[str, Tensor]:
        """Compute the negative evidence lower bound of images in [-1, 1]; arguments and result as in `VAE`."""
        embedding = self.embed(self.scaling(parents))
        h = s = self.top.expand(len(value), -1, -1, -1)
        kl = value.new_zeros(())
        for rung, feature in zip(self._ladder(), self._features(value, embedding)):
            h, s, prior = rung.descend(h, s, embedding)
            posterior = rung.infer(h, feature, embedding)
            z = sample_gaussian(*posterior, generator)
            divergence = gaussian_kl(*(part.float() for part in (*posterior, *prior)))
            kl = kl + divergence.sum(dim=(1, 2, 3)).mean()
            h, s = rung.merge_latent(h, s, z, embedding)
        pixels = self.pixel_log_prob(value, *(part.float() for part in self.head(h)))
        reconstruction = -pixels.sum(dim=(1, 2, 3)).mean()
        return {"loss": reconstruction + beta * kl, "kl": kl.detach(), "reconstruction": reconstruction.detach()}

    def _ladder(self) -> list[Rung]:
        """List the rungs, coarsest first."""
        return [cast(Rung, rung) for rung in self.rungs]

    def _features(self, value: Tensor, embedding: Tensor) -> list[Tensor]:
        """Return the encoder's features of every level, coarsest first, of images (B, C, H, W)."""
        features = self.encoder(value, embedding)
        return [self.summary(features[-1].mean(dim=(2, 3), keepdim=True), embedding), *reversed(features)]

    def _counts(self) -> list[int]:
        """Count the latent numbers of each level, coarsest first."""
        return [self.latent * side**2 for side in reversed(self.sizes)]

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Cut numbers of all latents, (B, L), into those of each level, (B, latent, side, side), coarsest first."""
        parts = flat.split(self._counts(), dim=1)
        return [part.unflatten(1, (self.latent, side, side)) for part, side in zip(parts, reversed(self.sizes))]


@dataclass(frozen=True)
class LadderSampling(PixelSampling):
    """How a `MediatorHVAE` abducts and predicts."""

    mix: float = setting(
        0.5, "α of an hvae-mediator: weight of the observed image's latents, against those of the new parents.",
        low=0, high=1,
    )  # fmt: skip
    residuals: bool = setting(
        False, "Of an hvae-mediator: carry the residuals of the latents' prior over, instead of the published mixture."
    )


class MediatorHVAE(HVAE):
    """Generate an image from latents that mediate between parents and image, and from pixel noise.

    The prior is conditional, ``p(z | pa) = Π_ℓ p(z_ℓ | z_{<ℓ}, pa)``; the rest is as in `HVAE`. With
    ``q_ℓ = N(μ_q, σ_q²)``, the posterior given x and pa, its noise ``ε_ℓ = (z_ℓ − μ_q)/σ_q``, and
    ``p*_ℓ = N(μ_p, σ_p²)``, the prior given ``z*_{<ℓ}`` and pa*, prediction takes

        ``z*_ℓ = α·μ_q + (1 − α)·μ_p + √(α·σ_q² + (1 − α)·σ_p²)·ε_ℓ``

    (paper, section 3.3, the latent mediator; its code, ``cond_prior=True``, which conditions p*_ℓ on samples of
    p(z | pa*) instead of ``z*_{<ℓ}``). Unless α = 1, composition is not exact, since p* differs from q also under the
    observed parents.

    With ``residuals``, a variant that is not published: ``z*_ℓ = μ_p + σ_p·e_ℓ`` with
    ``e_ℓ = (z_ℓ − μ_p(z_{<ℓ}, pa))/σ_p(z_{<ℓ}, pa)``, whose composition is exact.

    Args:
        parents, image_channels, size, rest: as in `HVAE`.
    """

    conditional = True
    sampling: LadderSampling

    def __init__(self, parents: Sequence[Variable], image_channels: int, size: int, **rest: Any) -> None:
        super().__init__(parents, image_channels, size, sampling=LadderSampling(), **rest)

    @property
    def kind(self) -> str:
        """Name the mechanism."""
        return "hvae-mediator"

    def combine(self, posterior: Gaussian, prior: Gaussian) -> Gaussian:
        """Return the published mixture of q and p*: the mean, and the variance, of each weighted by α and 1 − α."""
        alpha = self.sampling.mix
        variance = alpha * (2 * posterior.log_std).exp() + (1 - alpha) * (2 * prior.log_std).exp()
        return Gaussian(torch.lerp(prior.mean, posterior.mean, alpha), variance.log() / 2)

    def record(self, posterior: Gaussian, prior: Gaussian, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `HVAE.record` does or, with ``residuals``, the noise of the prior alone."""
        if not self.sampling.residuals:
            return super().record(posterior, prior, eps)
        empty = eps.new_empty((len(eps), 0))
        return empty, empty, prior.standardise(posterior.at(eps)).flatten(1)
