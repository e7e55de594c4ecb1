"""Random draws: one generator for a whole batch, or one for each element, whose noise then is its own."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dscm.settings import check_integer


@dataclass(frozen=True)
class Streams:
    """One generator for each element of a batch, on one device.

    What an element draws depends neither on the batch that it is in nor on its place there.

    Args:
        generators: at least one.
    """

    generators: tuple[torch.Generator, ...]

    @property
    def device(self) -> torch.device:
        """Return the device of the draws."""
        return self.generators[0].device


Source = torch.Generator | Streams


def make_streams(seed: int, names: Iterable[str | int], device: torch.device) -> Streams:
    """Make the generator of each named element, seeded by ``seed`` and its name.

    Args:
        seed: the seed of all, 0 to 2^62.
        names: the names of the elements, such as the path of an image or its number in a data set.
        device: the device of the draws.

    Raises:
        InputError: the seed is no such integer.
    """
    check_integer("seed", seed, 0)
    keys = [f"{seed} {name}".encode(errors="surrogateescape") for name in names]
    seeds = [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1 for key in keys]
    return Streams(tuple(torch.Generator(device).manual_seed(number) for number in seeds))


def draw_uniform(shape: Iterable[int], source: Source, dtype: torch.dtype | None = None) -> Tensor:
    """Sample U(0, 1); the first dimension of ``shape`` is the batch."""
    return _draw(torch.rand, shape, source, dtype)


def draw_normal(shape: Iterable[int], source: Source, dtype: torch.dtype | None = None) -> Tensor:
    """Sample N(0, 1); the first dimension of ``shape`` is the batch."""
    return _draw(torch.randn, shape, source, dtype)


def draw_exponential(shape: Iterable[int], source: Source) -> Tensor:
    """Sample the exponential distribution of rate 1; the first dimension of ``shape`` is the batch."""

    def exponential(some: tuple[int, ...], generator: torch.Generator, **like: Any) -> Tensor:
        return torch.empty(some, **like).exponential_(generator=generator)

    return _draw(exponential, shape, source)


def draw_classes(n: int, classes: int, source: Source) -> Tensor:
    """Sample n classes, int64, uniformly from 0 to ``classes`` − 1."""

    def integers(some: tuple[int, ...], generator: torch.Generator, **like: Any) -> Tensor:
        return torch.randint(classes, some, generator=generator, **like)

    return _draw(integers, (n,), source)


def _draw(
    sample: Callable[..., Tensor], shape: Iterable[int], source: Source, dtype: torch.dtype | None = None
) -> Tensor:
    """Sample a batch at once, or element by element."""
    like: dict[str, Any] = {"device": source.device} | ({"dtype": dtype} if dtype else {})
    whole = tuple(shape)
    if isinstance(source, torch.Generator):
        return sample(whole, generator=source, **like)
    rows = [sample((1, *whole[1:]), generator=generator, **like) for generator in source.generators]
    return torch.cat(rows)
