"""The machine: batches that fit, devices by name, and one seed for each batch."""

import signal
import time

import pytest
import torch

from dscm.errors import InputError
from dscm.machine import Machine, choose_batch, choose_device, fit_batch, worker_pool

CPU = torch.device("cpu")


@pytest.mark.parametrize(("fits", "chosen"), [(0, 1), (1, 1), (100, 64), (64, 64), (10**9, 4096)])
def test_a_batch_doubles_until_memory_runs_out(fits: int, chosen: int) -> None:
    tried = []

    def work(n: int) -> None:
        tried.append(n)
        if n > fits:
            raise torch.cuda.OutOfMemoryError

    assert fit_batch(work) == chosen
    assert tried == [2**k for k in range(1, len(tried) + 1)]


def test_a_number_is_taken_and_a_cpu_has_its_own() -> None:
    machine = Machine(CPU)
    assert choose_batch(7, None, machine) == 7
    assert choose_batch("auto", lambda n: None, machine) == choose_batch("auto", None, machine) == 64


def test_devices_are_named() -> None:
    assert choose_device("cpu") == CPU
    for name in ("abacus", "meta"):
        with pytest.raises(InputError, match=f"device {name}: not available here; available: cpu"):
            choose_device(name)


def test_an_apple_gpu_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="device mps: an Apple GPU has no float64"):
        choose_device("mps")


def test_workers_leave_an_interruption_to_the_one_that_started_them() -> None:
    """It drops what has not begun, and has no one to wait for but those at work."""
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN
        waiting = [pool.submit(time.sleep, 0.05) for _ in range(200)]
        raise KeyboardInterrupt
    assert sum(task.cancelled() for task in waiting) > 150
