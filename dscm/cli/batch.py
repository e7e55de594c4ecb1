"""How many images at a time: a number that was given, or what fits the device."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dscm.cli.arguments import number
from dscm.machine import gather
from dscm.causal.scm import SCM

AUTO = "auto"
USUAL, LARGEST = 64, 4096  # on a CPU more than 64 images are no faster


def batch_size(text: str) -> int | str:
    """Read a number of images, at least 1, or ``auto``; an argparse type."""
    return AUTO if text == AUTO else number(int, 1)(text)


def choose_batch(wanted: int | str, scm: SCM, one: Mapping[str, Tensor] | None, rank: int, world: int) -> int:
    """Return the number of images in a batch, the same in every process.

    Args:
        wanted: that number, or ``auto``: on a GPU what fits, on a CPU `USUAL`.
        scm: the model that is to abduct and predict.
        one: an observation of one image; None, where there is none, is as on a CPU.
        rank, world: this process and how many there are.
    """
    if wanted != AUTO:
        return int(wanted)
    if one is None or one["image"].device.type != "cuda":
        return USUAL

    def work(n: int) -> None:
        scm.counterfactual({name: value.expand(n, *value.shape[1:]) for name, value in one.items()}, {})

    return min(gather({rank: fit_batch(work)}, world))


def fit_batch(work: Callable[[int], None]) -> int:
    """Return the largest power of two, up to `LARGEST`, for which ``work(n)`` fits a GPU's memory; at least 1."""
    n = 1
    while n < LARGEST:
        try:
            work(2 * n)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        n *= 2
    return n
