"""Tables of what takes how long, ratios first."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def clock(like: Tensor) -> float:
    """Return the time once the device of a tensor has done what it was told; on one thread, of the processor."""
    if like.device.type == "cuda":
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def fastest(work: Callable[[], Any], like: Tensor, times: int = 2) -> tuple[float, Any]:
    """Work several times, at first to warm up; return the least seconds, and what came of it."""
    seconds = []
    for _ in range(times):
        began = clock(like)
        result = work()
        seconds.append(clock(like) - began)
    return min(seconds), result


def show(title: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows as a table, and return them."""

    def write(value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"

    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: name != "times as fast")
    print(f"\n{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(write(row[name]) for name in names)} |")
    return rows
