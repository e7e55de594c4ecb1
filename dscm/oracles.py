"""Predictors of attributes from images: what measuring cannot tell."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from dscm.nn import ResBlock, group_norm


class DigitOracle(nn.Module):
    """Classify digits.

    Colour is dropped (the brightest channel counts) and so is brightness, so that one oracle serves every
    graph: only the drawing is left to judge.

    Args:
        channels: channels at full resolution.
        classes: number of classes.
        dropout: probability of dropping a feature before the classifier.
    """

    def __init__(self, channels: int = 32, classes: int = 10, dropout: float = 0.3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, stride=2),
            ResBlock(channels, channels),
            nn.Conv2d(channels, 2 * channels, 3, padding=1, stride=2),
            ResBlock(2 * channels, 2 * channels),
            group_norm(2 * channels),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(32 * channels, classes)

    def logits(self, x: Tensor) -> Tensor:
        """Score images in [-1, 1], shape (B, C, H, W); returns (B, classes)."""
        grey = (x.amax(dim=1, keepdim=True) + 1) / 2
        grey = grey / grey.amax(dim=(2, 3), keepdim=True).clamp_min(0.05)
        return self.head(self.body(grey))

    def predict(self, x: Tensor) -> Tensor:
        """Return the most probable class of images in [-1, 1], int64, shape (B,)."""
        return self.logits(x).argmax(dim=1)

    def forward(self, value: Tensor, parents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the cross-entropy of images in [-1, 1] with their ``digit``, and the accuracy."""
        logits = self.logits(value)
        correct = (logits.argmax(dim=1) == parents["digit"]).float().mean()
        return {"loss": F.cross_entropy(logits, parents["digit"]), "accuracy": correct}
