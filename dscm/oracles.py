"""Predictors of attributes from images: what measuring cannot tell."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.nn import ResBlock, group_norm
from dscm.variables import Variable


class Oracle(nn.Module):
    """Predict binary and categorical attributes.

    Args:
        variables: what to predict, in order.
        image_channels: 1 or 3.
        channels: channels after the first convolution, which halves the resolution, as each further level does.
        multipliers: channels of each level, relative to ``channels``.
        dropout: probability of dropping a feature before the classifier.
        strokes: judge a drawing by its strokes: colour is dropped (the brightest channel counts) and so is
            brightness, so that one oracle of digits serves every graph of theirs.

    Raises:
        ValueError: a variable is neither binary nor categorical.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        image_channels: int,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2),
        dropout: float = 0.3,
        strokes: bool = False,
    ) -> None:
        super().__init__()
        other = [variable.name for variable in variables if variable.kind not in ("binary", "categorical")]
        if other:
            raise ValueError(f"{', '.join(other)}: an oracle predicts binary and categorical variables only")
        self.strokes = strokes
        self.sizes = {variable.name: max(variable.classes, 1) for variable in variables}  # a binary one has one logit
        layers: list[nn.Module] = []
        current = 1 if strokes else image_channels
        for multiplier in multipliers:
            width = channels * multiplier
            layers += [nn.Conv2d(current, width, 3, padding=1, stride=2), ResBlock(width, width)]
            current = width
        self.body = nn.Sequential(
            *layers, group_norm(current), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(16 * current, sum(self.sizes.values()))

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Score images in [-1, 1], shape (B, C, H, W); for each variable (B, classes), or (B, 1) if it is binary."""
        if self.strokes:
            grey = (x.amax(dim=1, keepdim=True) + 1) / 2
            x = grey / grey.amax(dim=(2, 3), keepdim=True).clamp_min(0.05)
        scores = self.head(self.body(x)).split(list(self.sizes.values()), dim=1)
        return dict(zip(self.sizes, scores))

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the most probable class of each variable, int64, (B,), of images in [-1, 1], (B, C, H, W)."""
        return {name: _decide(score) for name, score in self.logits(x).items()}

    def forward(self, value: Tensor, parents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the cross-entropy of images in [-1, 1] with their attributes, summed, and the mean accuracy."""
        losses, hits = [], []
        for name, score in self.logits(value).items():
            wanted = parents[name]
            if self.sizes[name] == 1:
                losses.append(F.binary_cross_entropy_with_logits(score.squeeze(1), wanted.float()))
            else:
                losses.append(F.cross_entropy(score, wanted))
            hits.append((_decide(score) == wanted).float().mean())
        return {"loss": sum(losses), "accuracy": torch.stack(hits).mean().detach()}


def _decide(score: Tensor) -> Tensor:
    """Return the class of each row of logits (B, classes), or of the one logit (B, 1); int64, (B,)."""
    return (score.squeeze(1) > 0).long() if score.shape[1] == 1 else score.argmax(dim=1)
