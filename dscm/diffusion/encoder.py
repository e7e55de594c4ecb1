"""The encoder of the semantic code, q(z | x)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from dscm.layers import ResBlock, clamped_normal, group_norm


class Encoder(nn.Module):
    """Infer a code from a clean image: ``q(z | x) = N(μ(x), σ²(x))``.

    Args:
        image_channels: channels of ``x``.
        code_dim: size of z.
        channels: channels at the finest level.
        multipliers: channels of each level, relative to ``channels``; each level halves the resolution.
        dropout: probability of dropping a feature inside a residual block.
        patch: side of the pixel blocks that are folded into channels.
    """

    def __init__(
        self,
        image_channels: int,
        code_dim: int,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 4, 8),
        dropout: float = 0.1,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        layers: list[nn.Module] = [nn.Conv2d(image_channels * patch**2, channels, 3, padding=1)]
        current = channels
        for level, multiplier in enumerate(multipliers):
            layers.append(ResBlock(current, channels * multiplier, dropout=dropout))
            current = channels * multiplier
            if level < len(multipliers) - 1:
                layers.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
        self.body = nn.Sequential(*layers, group_norm(current), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(16 * current, 2 * code_dim)

    def forward(self, x: Tensor) -> Normal:
        """Encode ``x`` of shape (B, C, H, W) into a Normal of batch shape (B, code_dim)."""
        mean, log_std = self.head(self.body(F.pixel_unshuffle(x, self.patch))).chunk(2, dim=1)
        return clamped_normal(mean, log_std)
