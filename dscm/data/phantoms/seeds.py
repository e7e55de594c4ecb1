"""Random numbers that belong to one image: they depend on the seed and its index, not on its company."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def make_generators(seed: int, index: Tensor, stream: int) -> list[np.random.Generator]:
    """Make a generator for each index.

    Args:
        seed: of the whole set, not negative.
        index: of the images, or of the patients, int64 (N,).
        stream: tells apart what is drawn for the same index.
    """
    return [np.random.default_rng((seed, i, stream)) for i in index.tolist()]


def draw_unit(generators: Sequence[np.random.Generator], names: Iterable[str]) -> dict[str, Tensor]:
    """Draw a number in [0, 1) of each name for each of N generators, float64 (N,)."""
    names = list(names)
    draws = np.stack([generator.random(len(names)) for generator in generators], axis=1)
    return dict(zip(names, torch.from_numpy(draws)))


def draw_uniform(
    generators: Sequence[np.random.Generator], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Tensor]:
    """Draw a number from each range, lowest and highest value, for each of N generators, float32 (N,)."""
    unit = draw_unit(generators, ranges)
    return {name: (low + (high - low) * unit[name]).float() for name, (low, high) in ranges.items()}


def draw_normal(generators: Sequence[np.random.Generator], *shape: int) -> Tensor:
    """Draw standard normal noise of a shape for each of N generators, float32 (N, *shape)."""
    return torch.from_numpy(np.stack([generator.standard_normal(shape, np.float32) for generator in generators]))
