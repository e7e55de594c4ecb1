"""Predictors of attributes from images: what measuring cannot tell."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.causal.encoding import ParentScaling
from dscm.layers import ResBlock, group_norm
from dscm.causal.variables import Variable


class Oracle(nn.Module):
    """Predict attributes: classes, and numbers on a line.

    Args:
        variables: what to predict, in order.
        image_channels: 1 or 3.
        channels: channels after the first convolution, which halves the resolution, as each further level does.
        multipliers: channels of each level, relative to ``channels``.
        dropout: probability of dropping a feature before the classifier.
        strokes: judge a drawing by its strokes: colour is dropped (the brightest channel counts) and so is
            brightness, so that one oracle of digits serves every graph of theirs.

    Raises:
        ValueError: a variable is circular.
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
        other = [variable.name for variable in variables if variable.kind == "circular"]
        if other:
            raise ValueError(f"{', '.join(other)}: an oracle predicts no circular variable")
        self.strokes, self.variables = strokes, tuple(variables)
        self.sizes = {v.name: max(v.classes, 1) for v in variables}  # one logit, or one standardised number
        self.scaling = ParentScaling([variable for variable in variables if variable.real])
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
        """Predict from images in [-1, 1], (B, C, H, W): of each variable the most probable class, int64, (B,), or the
        mean, float, (B,)."""
        scores = self.logits(x)
        return {v.name: self._decide(v, scores[v.name]) for v in self.variables}

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Take what standardises the numbers on a line from tensors of shape (N,)."""
        self.scaling.fit(data)

    def forward(self, value: Tensor, parents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the loss of images in [-1, 1] with their attributes, or with those of them that are given.

        Returns:
            Scalars: ``loss``, the cross-entropies of classes and the squared errors of standardised numbers, summed;
            ``accuracy``, the mean over classes (NaN without any).
        """
        scores, losses, hits = self.logits(value), [], [value.new_full((), math.nan)]
        for v in (v for v in self.variables if v.name in parents):
            score, wanted = scores[v.name], parents[v.name]
            if v.real:
                losses.append(F.mse_loss(score.squeeze(1).float(), self.scaling.standardise(v.name, wanted)))
                continue
            if v.kind == "binary":
                losses.append(F.binary_cross_entropy_with_logits(score.squeeze(1), wanted.float()))
            else:
                losses.append(F.cross_entropy(score, wanted))
            hits.append((self._decide(v, score) == wanted).float().mean())
        return {"loss": sum(losses), "accuracy": torch.stack(hits).nanmean().detach()}

    def _decide(self, variable: Variable, score: Tensor) -> Tensor:
        """Turn a variable's output, (B, classes) or (B, 1), into its value, (B,)."""
        if variable.kind == "categorical":
            return score.argmax(dim=1)
        if variable.kind == "binary":
            return (score.squeeze(1) > 0).long()
        return self.scaling.restore(variable.name, score.squeeze(1))
