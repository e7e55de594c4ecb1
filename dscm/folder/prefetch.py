"""Work that is done ahead, while its caller is busy with what came before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield what an iterator does, each item made in the background while the one before it is in use."""
    done = object()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, done)
        while (item := pending.result()) is not done:
            pending = pool.submit(next, items, done)
            yield item
