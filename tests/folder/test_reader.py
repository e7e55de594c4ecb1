"""What is done ahead comes in order, and so do its errors."""

import threading
from collections.abc import Iterator

import pytest

from dscm.folder.reader import ahead


def test_the_next_item_is_made_while_one_is_in_use() -> None:
    """In order, all of them, and the second before anyone asks for it."""
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i, event in enumerate(begun):
            event.set()
            yield i

    got = []
    for item in ahead(items()):
        got.append(item)
        assert item == 2 or begun[item + 1].wait(10)
    assert got == [0, 1, 2] and list(ahead(iter([]))) == []


def test_what_goes_wrong_ahead_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    rest = ahead(items())
    assert next(rest) == 1
    with pytest.raises(OSError, match="unreadable"):
        next(rest)
