"""What all mechanisms of an image share, diffusion models and autoencoders alike."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from dscm import settings
from dscm.causal.encoding import ParentScaling
from dscm.causal.mechanisms import Mechanism, NoiseT
from dscm.causal.variables import Variable

Self = TypeVar("Self", bound="ImageMechanism[Any]")


class ImageMechanism(Mechanism[NoiseT]):
    """Generate an image in [-1, 1] from its parents and its noise.

    ``forward(value, parents, generator, …)`` computes the training objective: a dict of scalars with ``loss`` among
    them, summed over dimensions and averaged over the batch.

    Args:
        parents: the variables that cause the image, in order.
        image_channels: 1 or 3.
        size: height and width in pixels.
        sampling: how the trained mechanism abducts and predicts, a frozen dataclass of settings.
    """

    event_dims = 3
    sampling: Any

    def __init__(self, parents: Sequence[Variable], image_channels: int, size: int, sampling: Any) -> None:
        super().__init__()
        self.shape = (image_channels, size, size)
        self.scaling = ParentScaling(parents)
        self.sampling = sampling

    @property
    def kind(self) -> str:
        """Name the mechanism as in a table of results."""
        raise NotImplementedError

    @property
    def has_code(self) -> bool:
        """Tell whether abduction infers a code q(z | x), of which ``sampling.sample_code`` takes a sample."""
        return False

    def using(self: Self, **changes: Any) -> Self:
        """Return this mechanism with other settings: a second view of the same weights.

        Args:
            changes: fields of ``sampling``.

        Raises:
            InputError: there is no such setting, or a value is not allowed.
        """
        view = copy.copy(self)
        view.sampling = settings.change(self.sampling, changes, self.kind)
        return view

    def fit_scaling(self, data: Mapping[str, Tensor]) -> None:
        """Fit the scaling of the parents to tensors of shape (N,)."""
        self.scaling.fit(data)
