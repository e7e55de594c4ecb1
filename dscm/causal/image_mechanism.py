"""What every mechanism of an image has in common, be it a diffusion model or an autoencoder."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from dscm.causal.encoding import ParentScaling
from dscm.causal.mechanisms import Mechanism
from dscm.causal.variables import Variable


class ImageMechanism(Mechanism):
    """Make an image in [-1, 1] from its parents and its noise.

    ``forward(value, parents, generator, …)`` computes the training objective: a dict of scalars with ``loss`` among
    them, summed over dimensions and averaged over the batch.

    Args:
        parents: the variables that cause the image, in order.
        image_channels: 1 or 3.
        size: height and width in pixels.
    """

    event_dims = 3

    def __init__(self, parents: Sequence[Variable], image_channels: int, size: int) -> None:
        super().__init__()
        self.shape = (image_channels, size, size)
        self.scaling = ParentScaling(parents)

    @property
    def kind(self) -> str:
        """Name the mechanism as a table of results does."""
        raise NotImplementedError

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Take the scaling of the parents from tensors of shape (N,)."""
        self.scaling.fit(data)
