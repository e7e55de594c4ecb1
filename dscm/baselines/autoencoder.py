"""What autoencoders share: convolutional pyramids, pixel likelihoods, and the noise that they abduct."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.baselines.likelihood import LIKELIHOODS, sample_gaussian
from dscm.causal.draws import Source
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import NoiseT
from dscm.causal.variables import Variable
from dscm.diffusion.published import SWITCH
from dscm.layers import ResBlock, group_norm, mlp, zero_init
from dscm.settings import check, setting

LOG_STD_RANGE = (-4.5, 1.0)  # of pixels on [-1, 1]; the lower end is about a grey level


class Pyramid(nn.Module):
    """Encode an image, given its parents, at ever coarser levels.

    Args:
        image_channels: the channels of the image.
        embedding: size of the parents' embedding.
        channels: at the finest level.
        multipliers: channels of each level, relative to ``channels``; each level halves the resolution.
        patch: side of the pixel blocks that are folded into channels.
    """

    def __init__(
        self, image_channels: int, embedding: int, channels: int, multipliers: Sequence[int], patch: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.stem = nn.Conv2d(image_channels * patch**2, channels, 3, padding=1)
        self.blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        current = channels
        for level, multiplier in enumerate(multipliers):
            self.downs.append(nn.Conv2d(current, current, 3, stride=2, padding=1) if level else nn.Identity())
            self.blocks.append(ResBlock(current, channels * multiplier, embedding))
            current = channels * multiplier

    def forward(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first, of images (B, C, H, W) with embeddings (B, E)."""
        h, features = self.stem(F.pixel_unshuffle(x, self.patch)), []
        for down, block in zip(self.downs, self.blocks):
            h = block(down(h), embedding)
            features.append(h)
        return features


class PixelHead(nn.Module):
    """Map features of the finest level to a Gaussian for every pixel.

    Args:
        image_channels, channels, patch: as in `Pyramid`.
    """

    def __init__(self, image_channels: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.norm = group_norm(channels)
        self.out = zero_init(nn.Conv2d(channels, 2 * image_channels * patch**2, 3, padding=1))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log standard deviation of each pixel, both (B, C, H, W)."""
        mean, log_std = F.pixel_shuffle(self.out(F.silu(self.norm(h))), self.patch).chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)


def level_sizes(size: int, patch: int, levels: int) -> list[int]:
    """Return the height, and width, of the features of every level, finest first; odd sizes are rounded up."""
    sizes = [size // patch]
    while len(sizes) < levels:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


class PixelNoise(NamedTuple):
    """The exogenous noise of an image under an autoencoder.

    ``u`` (B, C, H, W), the standardised residual of each pixel, zero where it is not abducted; ``latents``, all latent
    variables, flattened, (B, L).
    """

    u: Tensor
    latents: Tensor


@dataclass(frozen=True)
class CodeSampling:
    """How an autoencoder without pixel noise abducts.

    Raises:
        InputError: a value is not allowed.
    """

    sample_code: bool = setting(False, "Abduct a sample of the code, or of the latents, not their mean.")
    published: bool = setting(False, SWITCH)  # of which slants alone concern a model without steps

    def __post_init__(self) -> None:
        """Check the settings."""
        check(self)


@dataclass(frozen=True)
class PixelSampling(CodeSampling):
    """How an autoencoder abducts."""

    pixel_noise: bool = setting(True, "Of a VAE or HVAE: off abducts the latents alone.")


class Autoencoder(ImageMechanism[NoiseT]):
    """Base of VAE, HVAE and VCI: ``value = μ(latents, pa) + σ(latents, pa)·u``.

    Args:
        parents, image_channels, size: as in `ImageMechanism`.
        likelihood: the likelihood of a pixel: ``gaussian``, or ``discretised`` over its grey level.
        embedding: size of the parents' embedding.
        sampling: the settings; those without ``pixel_noise`` never abduct u.
    """

    sampling: CodeSampling

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        likelihood: Literal["gaussian", "discretised"],
        embedding: int,
        sampling: CodeSampling = PixelSampling(),
    ) -> None:
        super().__init__(parents, image_channels, size, sampling)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood '{likelihood}': must be one of {', '.join(LIKELIHOODS)}")
        self.pixel_log_prob = LIKELIHOODS[likelihood]
        self.embed = mlp(self.scaling.dim, embedding, embedding)

    @property
    def has_code(self) -> bool:
        """Tell that there are latents."""
        return True

    def choose(self, mean: Tensor, log_std: Tensor, generator: Source | None) -> Tensor:
        """Return the mean of q(z | x, pa) or, with ``sample_code`` and a generator, a sample."""
        if generator is None or not self.sampling.sample_code:
            return mean
        return sample_gaussian(mean, log_std, generator)

    @property
    def pixel_noise(self) -> bool:
        """Tell whether u is abducted."""
        return getattr(self.sampling, "pixel_noise", False)

    @staticmethod
    def render(mean: Tensor, log_std: Tensor, u: Tensor) -> Tensor:
        """Return images ``clamp(μ + σ·u, −1, 1)``, clamped as in the published code; all (B, C, H, W)."""
        return (mean + log_std.exp() * u).clamp(-1, 1)

    def residual(self, value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """Return u of images under these Gaussians, all (B, C, H, W); zeros where it is not abducted."""
        return (value - mean) * (-log_std).exp() if self.pixel_noise else torch.zeros_like(value)
