"""Two mechanisms of digits whose every score is known: one that changes nothing, and one that returns the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.draws import Source
from dscm.causal.graph import Graph
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Intervened, Parents
from dscm.checkpoint import Restored
from dscm.data.morphomnist.dataset import redraw
from dscm.data.scaling import to_levels, to_signed
from dscm.model import Model
from dscm.oracle import Oracle


@dataclass(frozen=True)
class NoSampling:
    """No settings."""


class Reference(ImageMechanism[Tensor]):
    """What both share.

    Args:
        graph: the causal graph.
        data: the digits, as `DataSet.load` returns them.
    """

    def __init__(self, graph: Graph, data: Mapping[str, Tensor]) -> None:
        super().__init__(graph.attributes, 1, 28, NoSampling())
        self.data = data
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)  # tells the device


class Null(Reference):
    """Return the observation, whatever the parents are."""

    kind = "null"

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        return value

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        return noise


class Perfect(Reference):
    """Return what the generator of the data draws; the noise of an image is the number of its drawing, (B,).

    The attributes that are measured are redrawn, which is the truth. Nobody knows how a writer would have drawn another
    digit; here the drawing is that of another writer, always the same one. An image tells its drawing because the
    mechanism remembers whatever it has drawn.
    """

    kind = "perfect"

    def __init__(self, graph: Graph, data: Mapping[str, Tensor]) -> None:
        super().__init__(graph, data)
        self.drawings = {image.numpy().tobytes(): i for i, image in enumerate(data["image"])}
        self.drawn: dict[bytes, Tensor] = {}  # images by drawing and attributes: the same ones are asked for often

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        return torch.tensor([self.drawings[image.numpy().tobytes()] for image in to_levels(value)])

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        source = torch.tensor([self._choose(i, digit) for i, digit in zip(noise.tolist(), parents["digit"].tolist())])
        columns = [source.double(), *(parents[name].double() for name in sorted(parents))]
        key = torch.stack(columns).mul(1e4).round().numpy().tobytes()  # what was abducted and predicted is rounded
        if key not in self.drawn:
            self.drawn[key] = redraw(self.data["base"][source], parents)
        images = self.drawn[key]
        self.drawings |= {image.numpy().tobytes(): i for image, i in zip(images, noise.tolist())}
        return to_signed(images)

    def _choose(self, drawing: int, digit: int) -> int:
        """Choose the drawing to redraw: the writer's own, or for another digit that of another writer."""
        if self.data["digit"][drawing] == digit:
            return drawing
        others = (self.data["digit"] == digit).nonzero()[:, 0]
        return int(others[drawing % len(others)])


def as_model(mechanism: Reference, graph: Graph, oracle: Restored[Oracle]) -> Model:
    """Make a model of a mechanism that no checkpoint holds."""
    name = str(mechanism.kind)
    restored: Restored[Any] = Restored(mechanism.eval(), Path(f"{name}.pt"), graph, {}, {}, None, None, name)
    return Model(restored, oracle=oracle)
