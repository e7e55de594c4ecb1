"""Several processes under ``torchrun``: the same code path as one, in which rank 0 writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from dscm.cli.arguments import set_up_machine
from dscm.errors import InputError


def set_up_processes(device: str | None, threads: int | None) -> tuple[torch.device, int, int]:
    """Choose the device and, under torchrun, join the other processes.

    Args:
        device, threads: as `set_up_machine` takes them.

    Returns:
        The device, the rank of this process and their number.

    Raises:
        InputError: the device does not exist here.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = set_up_machine(device, threads)
    if world > 1:
        if chosen.type == "cuda":
            local = int(os.environ["LOCAL_RANK"])
            if local >= torch.cuda.device_count():
                raise InputError(f"--nproc-per-node: more processes than the {torch.cuda.device_count()} GPUs here")
            chosen = torch.device("cuda", local)
            torch.cuda.set_device(chosen)
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen, rank, world


@contextmanager
def main_process_first(rank: int, world: int) -> Iterator[None]:
    """Let rank 0 go through the block, and write caches, before the other ranks."""
    if rank > 0:
        wait(world)
    yield
    if rank == 0:
        wait(world)


def wait(world: int) -> None:
    """Wait until every process has come here."""
    if world > 1:
        distributed.barrier()


def gather(items: dict[int, Any], world: int) -> list[Any]:
    """Collect what every rank made under its own keys, in the order of the keys, on all of them."""
    parts: list[dict[int, Any]] = [items]
    if world > 1:
        parts = [{}] * world
        distributed.all_gather_object(parts, items)
    merged = {key: value for part in parts for key, value in part.items()}
    return [merged[key] for key in sorted(merged)]


def leave(world: int) -> None:
    """Leave the group of processes."""
    if world > 1:
        distributed.destroy_process_group()
