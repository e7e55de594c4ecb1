"""The semantic code: its encoder q(z | x) and its prior p(z | pa)."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from dscm.layers import ResBlock, group_norm, zero_init

LOG_STD_RANGE = (-7.0, 2.0)  # clamp, against overflow of a collapsed or a diverging q


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
        return _normal(mean, log_std)


class StandardPrior(nn.Module):
    """The paper's ``p(z) = N(0, I)``, independent of the parents (eq. 13)."""

    def forward(self, parents: Tensor, like: Tensor) -> Normal:
        """Return a Normal of the shape of ``like``, (B, code_dim)."""
        return Normal(torch.zeros_like(like), torch.ones_like(like), validate_args=False)


class ConditionalPrior(nn.Module):
    """Learn ``p(z | pa) = N(μ(pa), σ²(pa))``, whose standardised residual is the exogenous part of the code.

    The KL term is minimal where μ(pa) is the mean of z given the parents. ``e = (z − μ(pa))/σ(pa)`` then has zero mean
    and unit variance for every value of the parents: their linear and quadratic effect on z is removed.

    Args:
        parents_dim: size of the encoded parents.
        code_dim: size of z.
        hidden: width of the two hidden layers.
    """

    def __init__(self, parents_dim: int, code_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(parents_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            zero_init(nn.Linear(hidden, 2 * code_dim)),
        )

    def forward(self, parents: Tensor, like: Tensor) -> Normal:
        """Return a Normal of the shape of ``like``, (B, code_dim), given encoded parents (B, parents_dim)."""
        mean, log_std = self.net(parents).chunk(2, dim=1)
        return _normal(mean, log_std)


def _normal(mean: Tensor, log_std: Tensor) -> Normal:
    """Make a Normal of clamped scale, without the checks that would synchronise host and device."""
    return Normal(mean, log_std.clamp(*LOG_STD_RANGE).exp(), validate_args=False)


PRIORS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "standard": lambda parents_dim, code_dim: StandardPrior(),
    "conditional": ConditionalPrior,
}
