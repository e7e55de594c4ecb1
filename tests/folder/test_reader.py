"""What is done ahead comes in order, and so do its errors."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch

from dscm.data.sets import DataSet
from dscm.errors import UnreadableImage
from dscm.folder.reader import Reader, ahead


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


def test_files_are_decoded_by_several_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once, whichever is done first; batches are in the order of the names, and say what is unreadable."""
    monkeypatch.setattr("dscm.folder.reader.DECODERS", 2)
    for i in range(5):
        (tmp_path / f"{i}.png").touch()
    together = threading.Barrier(2, timeout=10)

    class Slow:
        def read(self, path: Path, shape: tuple[int, int, int]) -> torch.Tensor:
            if path.stem in "01":
                together.wait()
            if path.stem == "0":
                time.sleep(0.05)
            if path.stem == "3":
                raise UnreadableImage("empty")
            return torch.full(shape, int(path.stem), dtype=torch.uint8)

    reader = Reader(tmp_path, cast(DataSet, Slow()), (1, 1, 1), None, torch.device("cpu"))
    found = [(index, kept, levels.flatten().tolist()) for index, kept, levels in reader._read_batches(2, 0, 1, ())]
    assert found == [(0, [0, 1], [0, 1]), (1, [2], [2]), (2, [4], [4])]
    assert reader.unreadable == {Path("3.png"): "empty"}
