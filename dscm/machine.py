"""The machine: its device, its threads, the processes of ``torchrun``, and how many images fit at a time."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import distributed

from dscm.errors import InputError, option

AUTO: Literal["auto"] = "auto"
PATIENCE = timedelta(hours=4)  # of processes that wait while the first one decodes a data set
USUAL, LARGEST = 64, 4096  # images at a time; on a CPU more than 64 are no faster


@dataclass(frozen=True)
class Machine:
    """Where a process computes.

    Args:
        device: the device of tensors and networks.
        rank, world: this process and how many there are; rank 0 writes what is shared.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Tell whether this process writes what all share."""
        return self.rank == 0


def set_up(device: str | None = None, threads: int | None = None) -> Machine:
    """Choose the device and, under ``torchrun``, join the other processes.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; None is a GPU where there is one.
        threads: the number of CPU threads; None is PyTorch's choice.

    Raises:
        InputError: the device does not exist here.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if threads:
        torch.set_num_threads(threads)
    chosen = choose_device(device)
    if world > 1:
        if chosen.type == "cuda":
            local = int(os.environ["LOCAL_RANK"])
            if local >= torch.cuda.device_count():
                raise InputError(f"{world} processes: more than the {torch.cuda.device_count()} GPUs here")
            chosen = torch.device("cuda", local)
            torch.cuda.set_device(chosen)
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    return Machine(chosen, rank, world)


def choose_device(device: str | None) -> torch.device:
    """Return a device by name; None is a GPU where there is one.

    Raises:
        InputError: it does not exist here.
    """
    torch.backends.cudnn.allow_tf32 = False  # inversion and alignment add up small differences
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if device.partition(":")[0] == "mps":
        raise InputError(f"{option('device')} {device}: an Apple GPU has no float64, in which the solvers count time; "
                         f"available: {', '.join(present)}")  # fmt: skip
    if device not in present + ["cuda"] * (len(present) > 1):
        raise InputError(f"{option('device')} {device}: not available here; available: {', '.join(present)}")
    if device.startswith("cuda"):
        torch.cuda.set_device(device if ":" in device else 0)  # capturing CUDA graphs asks for the current one
    return torch.device(device)


def warn_of_emulation(device: torch.device) -> None:
    """Warn, where bfloat16 is chosen, of a CPU that has no instructions for it; of several processes, one does."""
    first = int(os.environ.get("RANK", 0)) == 0
    if first and device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        print("precision bfloat16: this CPU only emulates it; float32 is many times as fast", file=sys.stderr)


@contextmanager
def first_process_first(machine: Machine) -> Iterator[None]:
    """Let rank 0 go through the block, and write caches, before the other ranks."""
    if not machine.first:
        wait(machine)
    yield
    if machine.first:
        wait(machine)


def wait(machine: Machine) -> None:
    """Wait until every process has come here."""
    if machine.world > 1:
        distributed.barrier()


def gather(items: dict[int, Any], machine: Machine) -> list[Any]:
    """Merge the dictionaries of all ranks; return the values, in the order of the keys, on every rank."""
    parts: list[dict[int, Any]] = [items]
    if machine.world > 1:
        parts = [{}] * machine.world
        distributed.all_gather_object(parts, items)
    merged = {key: value for part in parts for key, value in part.items()}
    return [merged[key] for key in sorted(merged)]


def leave(machine: Machine) -> None:
    """Leave the group of processes."""
    if machine.world > 1:
        distributed.destroy_process_group()


def is_first_to_fail() -> bool:
    """Tell whether no other process of ``torchrun`` has asked this before: the one that reports an error.

    Where the processes can no longer reach each other, all report: rather twice than never.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return True
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself, from the start to the end
    if not kept and not distributed.is_initialized():
        return os.environ.get("RANK", "0") == "0"  # all meet what is met before they meet each other
    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(*address, is_master=False, timeout=timedelta(seconds=10))
        return store.add(f"dscm failed {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (RuntimeError, KeyError, ValueError):
        return True


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that share work, on one thread each; where the block fails, what has not begun is dropped.

    Args:
        workers: their number; Windows waits for 61 at most.
    """
    pool = ProcessPoolExecutor(min(workers, 61) if sys.platform == "win32" else workers, initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Prepare a process of a pool; Ctrl-C, which a console sends to all, is left to the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


def choose_batch(wanted: int | Literal["auto"], work: Callable[[int], object] | None, machine: Machine) -> int:
    """Return the number of images in a batch, the same in every process.

    Args:
        wanted: a number, or ``auto``: on a GPU the largest that fits, on a CPU `USUAL`.
        work: does for n images what takes the most memory; None where that cannot be tried.
        machine: where.
    """
    if wanted != AUTO:
        return wanted
    if work is None or machine.device.type != "cuda":
        return USUAL
    return min(gather({machine.rank: fit_batch(work)}, machine))


def fit_batch(work: Callable[[int], object]) -> int:
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
