"""The noise predictor: a UNet over (x, t, c) that knows no noise schedule; c is embedded once for many t."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.layers import Attention, ResBlock, group_norm, mlp, sinusoidal_embedding, zero_init


class UNet(nn.Module):
    """Predict from a noisy image, its timestep and a condition.

    The condition is projected and added to the time embedding (paper, appendix on architectures). With
    ``patch = p`` the network works on ``pixel_unshuffle(x, p)``, which costs p² times less per layer.

    Args:
        image_channels: channels of ``x``: 1 for grey, 3 for colour.
        condition_dim: size of the condition vector ``c``; 0 makes an unconditional network.
        channels: channels at the finest level.
        multipliers: channels of each level, relative to ``channels``, as fractions too; each level halves the
            resolution.
        blocks: residual blocks in each level, on the way down; one more on the way up.
        attention: levels (0 is the finest) that have self-attention after each block.
        dropout: probability of dropping a feature inside a residual block.
        patch: side of the pixel blocks that are folded into channels.
        bypass: add ``W₂(g ⊙ W₁x)`` to the output, linear in the pixels of each block, with gains ``g`` from the
            embedding. The target holds noise in every pixel, which fewer features than pixels in a block cannot carry.
    """

    def __init__(
        self,
        image_channels: int,
        condition_dim: int,
        channels: int = 64,
        multipliers: Sequence[float] = (1, 2, 4),
        blocks: int = 1,
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        patch: int = 1,
        bypass: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        embedding = 4 * channels
        self.time = mlp(channels, embedding, embedding)
        self.condition = mlp(condition_dim, embedding, embedding) if condition_dim else None

        levels = [round(channels * multiplier) for multiplier in multipliers]
        self.stem = nn.Conv2d(image_channels * patch**2, levels[0], 3, padding=1)
        widths, current = levels[:1], levels[0]
        self.down = nn.ModuleList()
        for level, width in enumerate(levels):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(Stage(current, width, embedding, dropout, level in attention))
                current = width
                widths.append(current)
            if level < len(levels) - 1:
                stage.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
                widths.append(current)
            self.down.append(stage)

        self.middle = Stage(current, current, embedding, dropout, bool(attention))

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(levels))):
            stage = nn.ModuleList()
            for _ in range(blocks + 1):
                width_in = current + widths.pop()
                stage.append(Stage(width_in, width, embedding, dropout, level in attention))
                current = width
            self.up.append(stage)
        self.head = nn.Sequential(
            group_norm(current),
            nn.SiLU(),
            zero_init(nn.Conv2d(current, image_channels * patch**2, 3, padding=1)),
        )
        self.bypass = Bypass(image_channels * patch**2, embedding) if bypass else None

    def embed(self, c: Tensor) -> Tensor:
        """Embed conditions (B, condition_dim) as (B, E), once for all timesteps."""
        assert self.condition is not None  # unconditional networks embed nothing
        return self.condition(c)

    def forward(self, x: Tensor, t: Tensor, embedded: Tensor | None) -> Tensor:
        """Predict a tensor of the shape of ``x``.

        Args:
            x: noisy images, shape (B, C, H, W); H and W must be multiples of ``patch``.
            t: true timesteps in [0, T], shape (B,).
            embedded: conditions from `embed`, shape (B, E); None in an unconditional network.
        """
        embedding = self.time(sinusoidal_embedding(t, self.channels).to(x.dtype))
        if embedded is not None:
            embedding = embedding + embedded
        blocks = F.pixel_unshuffle(x, self.patch)
        h = self.stem(blocks)
        skips = [h]
        for stage in self.down:
            for layer in cast(nn.ModuleList, stage):
                h = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, embedding)
                skips.append(h)
        h = self.middle(h, embedding)
        for stage in self.up:
            for layer in cast(nn.ModuleList, stage):
                skip = skips.pop()
                if h.shape[-2:] != skip.shape[-2:]:  # downsampling rounded an odd size up
                    h = F.interpolate(h, size=skip.shape[-2:], mode="nearest")
                h = layer(torch.cat([h, skip], dim=1), embedding)
        output = self.head(h)
        if self.bypass is not None:
            output = output + self.bypass(blocks, embedding)
        return F.pixel_shuffle(output, self.patch)


class Stage(nn.Module):
    """One residual block and, optionally, self-attention."""

    def __init__(self, in_channels: int, out_channels: int, embedding: int, dropout: float, attend: bool) -> None:
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, embedding, dropout)
        self.attention = Attention(out_channels) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Transform ``x`` of shape (B, C_in, H, W), modulated by ``embedding`` of shape (B, E)."""
        return self.attention(self.block(x, embedding))


class Bypass(nn.Module):
    """A linear map of each block of pixels, ``W₂(g ⊙ W₁x)``, with gains ``g`` that are linear in the embedding.

    Args:
        features: pixels of a block, times channels.
        embedding: size of the embedding.
    """

    def __init__(self, features: int, embedding: int) -> None:
        super().__init__()
        self.analysis = nn.Conv2d(features, features, 1)
        self.gain = nn.Linear(embedding, features)
        self.synthesis = zero_init(nn.Conv2d(features, features, 1))
        nn.init.orthogonal_(self.analysis.weight)

    def forward(self, blocks: Tensor, embedding: Tensor) -> Tensor:
        """Transform ``blocks`` of shape (B, F, H, W), with an embedding of shape (B, E)."""
        return self.synthesis(self.gain(F.silu(embedding))[:, :, None, None] * self.analysis(blocks))
