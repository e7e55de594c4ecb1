"""Random numbers of single images, which depend on the seed and the image's index but not on the batch."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def make_generators(seed: int, index: Tensor, stream: int) -> list[np.random.Generator]:
    """Create a generator for each index.

    Args:
        seed: seed of the data set, at least 0.
        index: indices of the images or patients, int64 (N,).
        stream: number of the random stream, so that draws for the same index are independent.

    Returns:
        N generators.
    """
    return [np.random.default_rng((seed, i, stream)) for i in index.tolist()]


def draw_unit(generators: Sequence[np.random.Generator], names: Iterable[str]) -> dict[str, Tensor]:
    """Draw a uniform number in [0, 1) for each name from each of N generators, float64 (N,)."""
    names = list(names)
    draws = np.array([generator.random(len(names)) for generator in generators]).reshape(-1, len(names))  # N may be 0
    return dict(zip(names, torch.from_numpy(draws.T.copy())))


def draw_uniform(
    generators: Sequence[np.random.Generator], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Tensor]:
    """Draw a uniform number in each range (low, high) from each of N generators, float32 (N,)."""
    unit = draw_unit(generators, ranges)
    return {name: (low + (high - low) * unit[name]).float() for name, (low, high) in ranges.items()}


def draw_normal(generators: Sequence[np.random.Generator], *shape: int) -> Tensor:
    """Draw standard normal noise from each of N generators, float32 (N, *shape)."""
    return torch.from_numpy(np.stack([generator.standard_normal(shape, np.float32) for generator in generators]))
