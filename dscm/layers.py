"""Building blocks of the networks."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

LOG_STD_RANGE = (-7.0, 2.0)  # of `clamped_normal`, against overflow of a collapsed or a diverging one
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def sinusoidal_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Embed timesteps as sines and cosines of geometrically spaced frequencies.

    ``[cos(t·f_1), …, cos(t·f_h), sin(t·f_1), …, sin(t·f_h)]`` with ``f_i = max_period^(−i/h)`` and
    ``h = dim/2`` (Vaswani et al. 2017; Ho et al. 2020).

    Args:
        t: timesteps, shape (B,), integer or float; T for pure noise, 0 for a clean image.
        dim: size of the embedding, even.
        max_period: the slowest wavelength, divided by 2π.

    Returns:
        Tensor of shape (B, dim), float32 or the dtype of a floating ``t``.
    """
    half = dim // 2
    dtype = t.dtype if t.is_floating_point() else torch.float32
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=dtype) / half)
    angles = t.to(dtype)[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def mlp(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    """Build ``Linear → SiLU → Linear``."""
    return nn.Sequential(nn.Linear(in_dim, hidden), nn.SiLU(), nn.Linear(hidden, out_dim))


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise over groups of at least four channels, in at most 32 groups."""
    return nn.GroupNorm(math.gcd(32, channels // 4, channels) if channels >= 4 else 1, channels)


def zero_init(layer: Layer) -> Layer:
    """Set weights and bias to zero, so that a residual branch starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def clamped_normal(mean: Tensor, log_std: Tensor) -> Normal:
    """Make a Normal of clamped scale, without the checks that would synchronise host and device."""
    return Normal(mean, log_std.clamp(*LOG_STD_RANGE).exp(), validate_args=False)


class ResBlock(nn.Module):
    """A residual block of two convolutions, modulated by an embedding.

    ``h = conv(silu(norm(x)))``, then ``x + conv(silu(norm(h)·(1 + scale) + shift))``, where
    ``(scale, shift)`` is linear in the embedding (Dhariwal and Nichol 2021, adaptive group norm).

    Args:
        in_channels, out_channels: channels of input and output.
        embedding: size of the embedding, or 0 for a block without one.
        dropout: probability of dropping a feature before the second convolution.
        kernel: side of the convolutions, odd.
    """

    def __init__(
        self, in_channels: int, out_channels: int, embedding: int = 0, dropout: float = 0.0, kernel: int = 3
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.modulation = zero_init(nn.Linear(embedding, 2 * out_channels)) if embedding else None
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, kernel, padding=kernel // 2))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Transform ``x`` of shape (B, C_in, H, W) into (B, C_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h)
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1)
            h = torch.addcmul(shift, h, 1 + scale)
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))


class Attention(nn.Module):
    """Multi-head self-attention over the pixels of a feature map, with a residual connection.

    Args:
        channels: channels in and out.
        head_dim: channels of one head; must divide ``channels``.
    """

    def __init__(self, channels: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads = max(channels // head_dim, 1)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x`` of shape (B, C, H, W) over its H·W positions."""
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)  # each (B, heads, H·W, C/heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(-1, -2).reshape(b, c, height, width))
