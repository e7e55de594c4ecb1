"""A ledger survives every interruption: what is finished stays, what is torn goes, another command is refused."""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from dscm.errors import InputError
from dscm.folder.ledger import COMMAND, FINISHED, Ledger
from dscm.machine import Machine

ITEMS = [f"{i}.png" for i in range(10)] + ["caf\udce9.png", "größe,\r数.png"]
COLUMNS = ["image", "query", "value"]
COMMAND_OF_TESTS = {"do": ["a=1", "a=2"], "seed": 0}
CPU = torch.device("cpu")


def open_ledger(out: Path, keys: Mapping[str, str] | None = None, rank: int = 0, **changes: object) -> Ledger:
    """Open the ledger of the tests' command, as one process of however many."""
    ledger = Ledger(out, "rows.csv", COLUMNS, COMMAND_OF_TESTS | changes, keys or dict.fromkeys(ITEMS, "k"))
    ledger.machine = Machine(CPU, rank)
    return ledger


def add(ledger: Ledger, items: Sequence[str]) -> None:
    """Add a batch with two rows an item, one of them with all that CSV must quote."""
    rows = [[name, query, f'{name}, "{query}"\n'] for name in items for query in COMMAND_OF_TESTS["do"]]
    ledger.add({name: {"a=2": "not allowed"} if name == ITEMS[3] else {} for name in items}, rows)


def files(out: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of a command that was not interrupted."""
    ledger = open_ledger(tmp_path / "whole")
    for start in range(0, 12, 3):
        add(ledger, ITEMS[start : start + 3])
    ledger.close()
    return files(tmp_path / "whole")


def test_a_stopped_command_goes_on(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """With what is missing; each row and each reason is there once, in order."""
    add(open_ledger(tmp_path / "out"), ITEMS[:3])
    again = open_ledger(tmp_path / "out")
    assert [*again.finished] == ITEMS[:3] and again.resumed
    for start in (6, 3, 9):
        add(again, ITEMS[start : start + 3])
    again.close()
    assert files(tmp_path / "out") == whole
    last = open_ledger(tmp_path / "out")
    assert [*last.finished] == ITEMS and last.finished[ITEMS[3]] == {"a=2": "not allowed"}
    last.close()
    assert files(tmp_path / "out") == whole


def test_whatever_is_torn_is_done_again(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Both files cut at a random byte, as a kill leaves them, 60 times."""
    draw = random.Random(0)
    for trial in range(60):
        out = tmp_path / str(trial)
        ledger = open_ledger(out)
        for start in range(0, 12, 3):
            add(ledger, ITEMS[start : start + 3])
        for name in ("rows.csv", FINISHED) if trial % 2 else (FINISHED,):
            content = (out / name).read_bytes()
            (out / name).write_bytes(content[: draw.randrange(len(content))])
        (out / ".unfinished-x.png").touch()
        again = open_ledger(out)
        assert {row[0] for row in _rows(again)} == {*again.finished}
        for name in ITEMS:
            if name not in again.finished:
                add(again, [name])
        again.close()
        assert files(out) == whole


def _rows(ledger: Ledger) -> list[list[str]]:
    """Read the rows of a ledger's table, without the header."""
    with ledger.table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [*csv.reader(file)][1:]


def test_processes_share_the_items(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Each writes a file of its own; the first merges them, at the end or when the command goes on."""
    ledgers = [open_ledger(tmp_path / "out", rank=rank) for rank in range(2)]
    for i, start in enumerate(range(0, 12, 3)):
        add(ledgers[i % 2], ITEMS[start : start + 3])
    again = open_ledger(tmp_path / "out")
    assert [*again.finished] == ITEMS
    again.close()
    assert files(tmp_path / "out") == whole


def test_what_is_finished_is_not_added_twice(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Though a batch is computed again as a whole, when one of its items has gone."""
    ledger = open_ledger(tmp_path / "out")
    add(ledger, ITEMS)
    again = Ledger(
        tmp_path / "out",
        "rows.csv",
        COLUMNS,
        COMMAND_OF_TESTS,
        dict.fromkeys(ITEMS, "k"),
        lambda items: set(items) - {ITEMS[1]},
    )
    add(again, ITEMS)
    again.close()
    assert files(tmp_path / "out") == whole


def test_items_that_changed_are_done_again(tmp_path: Path) -> None:
    """As are those whose files are gone; an item that is no longer there loses its rows."""
    ledger = open_ledger(tmp_path)
    add(ledger, ITEMS)
    ledger.close()
    keys = {name: "other" if name == ITEMS[0] else "k" for name in ITEMS[:-1]}
    again = Ledger(tmp_path, "rows.csv", COLUMNS, COMMAND_OF_TESTS, keys, lambda items: set(items) - {ITEMS[1]})
    assert [*again.finished] == ITEMS[2:-1]
    assert {row[0] for row in _rows(again)} == {*ITEMS[2:-1]}


def test_another_command_is_refused(tmp_path: Path) -> None:
    """With what differs, and nothing is changed; to start over must be asked for."""
    add(open_ledger(tmp_path), ITEMS[:3])
    before = files(tmp_path)
    with pytest.raises(InputError, match="holds answers with do a=1, a=2, not a=3; seed 0, not 1: name another folder"):
        open_ledger(tmp_path, seed=1, do=["a=3"])
    assert files(tmp_path) == before
    again = Ledger(tmp_path, "rows.csv", COLUMNS, {"seed": 1}, dict.fromkeys(ITEMS, "k"), overwrite=True)
    assert not again.finished and not again.resumed and json.loads((tmp_path / COMMAND).read_text()) == {"seed": 1}


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00"])
def test_a_damaged_command_is_refused(tmp_path: Path, content: str) -> None:
    open_ledger(tmp_path)
    (tmp_path / COMMAND).write_text(content)
    with pytest.raises(InputError, match=r"command.json: damaged; name another out"):
        open_ledger(tmp_path)


def test_a_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="the folder is not empty"):
        open_ledger(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_room_leaves_no_part_of_a_row(tmp_path: Path) -> None:
    """A disk with room for ten more bytes takes none, and the batch is not finished."""
    resource = pytest.importorskip("resource")
    ledger = open_ledger(tmp_path)
    add(ledger, ITEMS[:3])
    before = files(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["rows.csv"]) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            add(ledger, ITEMS[3:6])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == before
