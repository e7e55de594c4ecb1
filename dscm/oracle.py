"""Attribute predictors that judge effectiveness."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.causal.encoding import ParentScaling
from dscm.causal.graph import Graph
from dscm.causal.values import find_outside
from dscm.causal.variables import Variable
from dscm.data.morphomnist.measure import find_strokeless
from dscm.data.scaling import to_levels, to_signed
from dscm.data.sets import get_data_set
from dscm.errors import InputError, option
from dscm.layers import ResBlock, group_norm

MEASURED, PREDICTED = "measured on the images", "predicted by the oracle"  # where attributes come from


class Oracle(nn.Module):
    """Predict classes and real attributes from an image.

    Args:
        variables: the attributes, in order.
        image_channels: 1 or 3.
        channels: after the first convolution; each level halves the resolution.
        multipliers: channels of each level, relative to ``channels``.
        dropout: probability of dropping a feature before the classifier.
        strokes: see strokes alone: the brightest channel, normalised in brightness, so that one oracle of digits
            serves every graph of theirs.

    Raises:
        InputError: a variable is circular.
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
            raise InputError(f"{', '.join(other)}: an oracle predicts no circular variable")
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

    def features(self, x: Tensor) -> Tensor:
        """Return what the classifier sees of images in [-1, 1], (B, C, H, W), as (B, F)."""
        if self.strokes:
            grey = (x.amax(dim=1, keepdim=True) + 1) / 2
            x = grey / grey.amax(dim=(2, 3), keepdim=True).clamp_min(0.05)
        return self.body(x)

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Score images in [-1, 1], shape (B, C, H, W); for each variable (B, classes), or (B, 1) if it is binary."""
        scores = self.head(self.features(x)).split(list(self.sizes.values()), dim=1)
        return dict(zip(self.sizes, scores))

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Predict the most probable class, int64 (B,), or the mean, float (B,), of each variable.

        A mean beyond its domain by no more than a standard deviation of the training data is an error of the estimate,
        and the end of the domain replaces it; one farther off, as of images of another kind, stays for `find_faults`.

        Args:
            x: images in [-1, 1], (B, C, H, W).
        """
        scores = self.logits(x)
        return {v.name: self._decide(v, scores[v.name]) for v in self.variables}

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Fit what standardises real variables to tensors of shape (N,)."""
        self.scaling.fit(data)

    def forward(self, value: Tensor, parents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the loss of images in [-1, 1] with their attributes, or those of them that ``parents`` holds.

        Returns:
            Scalars: ``loss``, the sum of cross-entropies of classes and squared errors of standardised numbers;
            ``accuracy``, the mean over classes (NaN without any).
        """
        scores = self.logits(value)
        known = [v for v in self.variables if v.name in parents]
        hits = [value.new_full((), math.nan)]  # of no class
        hits += [(self._decide(v, scores[v.name]) == parents[v.name]).float().mean() for v in known if not v.real]
        losses = self.losses(scores, parents)
        return {"loss": reduce(torch.add, losses.values()), "accuracy": torch.stack(hits).nanmean().detach()}

    def losses(self, scores: Mapping[str, Tensor], parents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compare `logits` with attributes, those of them that ``parents`` holds: a scalar each.

        Of classes it is the cross-entropy, of a number the squared error, standardised.
        """
        losses: dict[str, Tensor] = {}
        for v in (v for v in self.variables if v.name in parents):
            score, wanted = scores[v.name], parents[v.name]
            if v.real:
                losses[v.name] = F.mse_loss(score.squeeze(1).float(), self.scaling.standardise(v.name, wanted))
            elif v.kind == "binary":
                losses[v.name] = F.binary_cross_entropy_with_logits(score.squeeze(1), wanted.float())
            else:
                losses[v.name] = F.cross_entropy(score, wanted)
        return losses

    def _decide(self, variable: Variable, score: Tensor) -> Tensor:
        """Convert a variable's output, (B, classes) or (B, 1), to its value, (B,)."""
        if variable.kind == "categorical":
            return score.argmax(dim=1)
        if variable.kind == "binary":
            return (score.squeeze(1) > 0).long()
        value = self.scaling.restore(variable.name, score.squeeze(1))
        near = value.clamp(variable.low, variable.high)  # as the mean of values in the domain is
        return torch.where((value - near).abs() <= self.scaling.spread(variable.name), near, value)


def observe(x: Tensor, graph: Graph, oracle: Oracle | None, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """Measure the attributes of images, and predict those that cannot be measured.

    Args:
        x: images in [-1, 1], shape (B, C, H, W); they are rounded to 8 bits first, as in a file.
        graph: the causal graph.
        oracle: the predictor; None suffices where every attribute is measured.
        names: the attributes wanted; None is all.

    Returns:
        The attributes, (B,), in raw units.

    Raises:
        InputError: an oracle is needed.
    """
    wanted = [variable for variable in graph.attributes if names is None or variable.name in names]
    levels = to_levels(x)
    measured = [variable.name for variable in wanted if variable.name in graph.measured]
    result = get_data_set(graph).measure(levels, measured) if measured else {}
    predicted = [variable.name for variable in wanted if variable in graph.predicted]
    if predicted:
        if oracle is None:
            raise no_oracle(predicted)
        result |= oracle.predict(to_signed(levels))
    return {variable.name: result[variable.name] for variable in wanted}


def find_faults(graph: Graph, obs: Mapping[str, Tensor], given: Collection[str] = ()) -> dict[int, str]:
    """Find the images of an observation that cannot be asked about.

    Args:
        graph: the causal graph.
        obs: the observation: attributes (B,) in raw units, and the image in [-1, 1], (B, C, H, W).
        given: the names of the attributes that were neither measured nor predicted.

    Returns:
        By the number of the image, the first reason: it is no picture of the kind that the model knows, or an attribute
        is not finite or outside its domain, as in ``thickness measured as 15.7 px; allowed: 0.5 to 10 px``.
    """
    faults = find_strokeless(to_levels(obs["image"])) if graph.data_set == "morphomnist" else {}
    for variable in graph.attributes:
        found = "measured" if variable.name in graph.measured else "predicted"
        verb = "given" if variable.name in given else found
        faults = find_outside([variable], obs, f"{verb} as") | faults
    return dict(sorted(faults.items()))


def complete(x: Tensor, given: Mapping[str, Tensor], graph: Graph, oracle: Oracle | None) -> dict[str, Tensor]:
    """Add to given attributes those that can be measured or predicted, as `observe`.

    Args:
        x: images in [-1, 1], shape (B, C, H, W).
        given: attributes by name, each (B,).
        graph, oracle: as for `observe`.

    Returns:
        All attributes, (B,), in the order of the graph.

    Raises:
        InputError: an oracle is needed.
    """
    missing = [variable.name for variable in graph.attributes if variable.name not in given]
    every = {**given, **(observe(x, graph, oracle, missing) if missing else {})}
    return {variable.name: every[variable.name] for variable in graph.attributes}


def list_sources(graph: Graph, given: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """List where attributes come from.

    Args:
        graph: the causal graph.
        given: the attributes that were given, by their source; of several sources the first counts. The others are
            measured or predicted as by `complete`.

    Returns:
        The attributes of each source that has any, in the order of the graph.
    """
    sources: dict[str, list[str]] = {source: [] for source in (*given, MEASURED, PREDICTED)}
    for variable in graph.attributes:
        seen = MEASURED if variable.name in graph.measured else PREDICTED
        sources[next((source for source, names in given.items() if variable.name in names), seen)].append(variable.name)
    return {source: names for source, names in sources.items() if names}


def needs_strokes(graph: Graph) -> bool:
    """Tell whether strokes are all that an oracle must see: of digits, where it does not predict how they are drawn."""
    return graph.data_set == "morphomnist" and {variable.name for variable in graph.predicted} <= {"digit"}


def no_oracle(names: Iterable[str]) -> InputError:
    """Make the error that attributes need an oracle and there is none."""
    return InputError(
        f"{', '.join(names)}: predicted by an oracle, and none is bundled; give one with {option('oracle')}"
    )
