"""What a folder of answers holds already, so that a command that was stopped goes on where it was.

``command.json`` says which command the folder answers; the table gets the rows of each batch as they come; and the
hidden file `FINISHED` lists the items whose rows and pictures are all there, one line a batch. A row whose item is not
on that list was being written when the process died, and is dropped; an item that lacks a row is done again.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import torch

from dscm.errors import InputError, option
from dscm.files import atomic_path, remove_unfinished
from dscm.machine import Machine, first_process_first, wait
from dscm.runs import check_output

COMMAND, FINISHED = "command.json", ".finished"
Item = Mapping[str, Any]  # ``key``: what it depends on besides the command; ``rows``: how many; ``refused``: reasons
Select = Callable[[Mapping[str, Item]], Collection[str]]


class Ledger:
    """Keep the rows of a table as they are computed, and know after a restart which of them are there.

    Several processes may share the items: each adds rows to a file of its own, and the first process merges them.

    Args:
        out: the folder.
        table: the name of the table in it, whose first column names the item.
        columns: the names of the columns.
        command: what the answers depend on, by name; as JSON.
        keys: by item, in the order of the table, a text that says what it depends on besides the command.
        select: of finished items, returns the names of those whose other files are still there; None is all.
        overwrite: start over, whatever the folder holds.
        machine: this process; None is the only one.
        beside: the columns of further tables, by name, with as many rows of each item, whose name comes first.

    Attributes:
        finished: the items that are there, each with the reasons of its queries that were refused.
        earlier: how many of them were there at the start.
        resumed: whether an earlier command had begun.

    Raises:
        InputError: the folder has content that is not of this command.
    """

    def __init__(
        self,
        out: Path,
        table: str,
        columns: Sequence[str],
        command: Mapping[str, Any],
        keys: Mapping[str, str],
        select: Select | None = None,
        overwrite: bool = False,
        machine: Machine | None = None,
        beside: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self.out, self.table, self.columns, self.keys = out, out / table, columns, keys
        self.beside = beside
        self.tables = {self.table: columns} | {out / name: others for name, others in beside.items()}
        self.overwrite = overwrite
        self.machine = machine = machine or Machine(torch.device("cpu"))
        self.resumed = self.is_in(out) and not overwrite
        with first_process_first(machine):
            if machine.first:
                self._open(json.loads(json.dumps(command)), select or (lambda items: items), overwrite)
        self.finished = {name: item["refused"] for name, item in _read_items(out / FINISHED).items()}
        self.earlier = len(self.finished)

    @staticmethod
    def is_in(out: Path) -> bool:
        """Tell whether a command has begun to write into a folder."""
        return (out / COMMAND).is_file()

    def add(
        self,
        refused: Mapping[str, Mapping[str, str]],
        rows: Sequence[Sequence[str]],
        beside: Mapping[str, Sequence[Sequence[str]]] = {},
    ) -> None:
        """Add a batch whose pictures are written; what is finished already stays as it is.

        Args:
            refused: by item, the reasons of its queries that have no answer.
            rows: the rows of the items, whole and in order.
            beside: likewise those of the further tables, by name.
        """
        refused = {name: reasons for name, reasons in refused.items() if name not in self.finished}
        rows = [row for row in rows if row[0] in refused]
        for path, some in {self.table: rows, **{self.out / name: more for name, more in beside.items()}}.items():
            _append(self._share(path), _to_csv([row for row in some if row[0] in refused]))
        counts = Counter(row[0] for row in rows)
        items = {
            name: {"key": self.keys[name], "rows": counts[name], "refused": reasons}
            for name, reasons in refused.items()
        }
        _append(self._share(self.out / FINISHED), json.dumps(items) + "\n")
        self.finished |= {name: dict(reasons) for name, reasons in refused.items()}

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Say, where the user stops the command, how it goes on."""
        try:
            yield
        except KeyboardInterrupt as error:
            there = f"{len(self.finished)} of {len(self.keys)} images are there"
            how = "the same command without starting over" if self.overwrite else "the same command"
            raise KeyboardInterrupt(f"interrupted; {there}, and {how} goes on with the others") from error

    def close(self) -> None:
        """Merge the files of all processes, and put the table in order."""
        wait(self.machine)
        if self.machine.first:
            self._write(self._gather())
        wait(self.machine)

    def _open(self, command: Mapping[str, Any], select: Select, overwrite: bool) -> None:
        """Check that the folder is empty or of this command, and begin or go on."""
        if self.resumed:
            self._compare(command)
        else:
            check_output(self.out, overwrite)
            for path in [*self.tables, self.out / FINISHED]:
                for share in [path, *self._shares(path)]:
                    share.unlink(missing_ok=True)
            with atomic_path(self.out / COMMAND) as temporary:  # first, so that a kill at any moment leaves it
                temporary.write_text(json.dumps(command, indent=1) + "\n", encoding="utf-8")
        remove_unfinished(self.out)
        tables = [self._gather_rows(path) for path in self.tables]
        unchanged = {
            name: item
            for name, item in self._gather().items()
            if self.keys.get(name) == item["key"] and all(len(rows.get(name, [])) == item["rows"] for rows in tables)
        }
        standing = select(unchanged)
        self._write({name: item for name, item in unchanged.items() if name in standing})

    def _compare(self, command: Mapping[str, Any]) -> None:
        """Refuse a folder of another command, and say what differs."""
        path = self.out / COMMAND
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            differing = [name for name in {**old, **command} if old.get(name) != command.get(name)]
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: damaged; name another {option('out')}") from error
        if differing:
            words = (f"{name} {_show(old.get(name))}, not {_show(command.get(name))}" for name in differing)
            way_out = f"name another folder, or start over with {option('overwrite')}"
            raise InputError(f"{option('out')} {self.out}: holds answers with {'; '.join(words)}: {way_out}")

    def _gather(self) -> dict[str, Item]:
        """Read the finished items from the files of all processes."""
        items: dict[str, Item] = {}
        for share in [self.out / FINISHED, *self._shares(self.out / FINISHED)]:
            items |= _read_items(share)
        return items

    def _gather_rows(self, table: Path) -> dict[str, list[str]]:
        """Read the rows of each item in a table, as text, from the files of all processes."""
        rows: dict[str, list[str]] = {}
        for share in [table, *self._shares(table)]:
            rows |= _read_rows(share, len(self.tables[table]))
        return rows

    def _write(self, items: Mapping[str, Item]) -> None:
        """Write items and their rows, in order, into the files of the first process, and remove the others'."""
        in_order = [name for name in self.keys if name in items]
        for path, columns in self.tables.items():
            rows = self._gather_rows(path)
            with atomic_path(path) as temporary, _open_text(temporary, "w") as file:
                file.write(_to_csv([columns]))
                for name in in_order:
                    file.writelines(rows.get(name, []))
        with atomic_path(self.out / FINISHED) as temporary, _open_text(temporary, "w") as file:
            file.writelines(json.dumps({name: items[name]}) + "\n" for name in in_order)
        for path in [*self.tables, self.out / FINISHED]:
            for share in self._shares(path):
                share.unlink()

    def _share(self, path: Path) -> Path:
        """Name the part of a file that this process writes; the first one writes the file itself."""
        return path if self.machine.first else path.with_name(f".{path.name.lstrip('.')}.{self.machine.rank}")

    def _shares(self, path: Path) -> list[Path]:
        """List the parts of a file that other processes wrote."""
        return sorted(path.parent.glob(f".{path.name.lstrip('.')}.*"))


def _append(path: Path, text: str) -> None:
    """Append a text in one piece; if there is no room for it, none of it stays."""
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        content = text.encode("utf-8", errors="surrogateescape")
        try:
            while content:
                content = content[file.write(content) or 0 :]
        except OSError:
            file.truncate(before)
            raise


def _read_items(path: Path) -> dict[str, Item]:
    """Read finished items; a line that was not written whole is left out."""
    items: dict[str, Item] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            items |= json.loads(line)  # names that are not UTF-8 hold halves of characters
        except (ValueError, TypeError, RecursionError):
            continue
    return {
        name: item
        for name, item in items.items()
        if isinstance(item, dict) and {"key", "rows", "refused"} <= item.keys()
    }


def _open_text(path: Path, mode: Literal["r", "w"]) -> TextIO:
    """Open a table, whose names need not be UTF-8 on Linux."""
    return cast(TextIO, path.open(mode, newline="\n", encoding="utf-8", errors="surrogateescape"))


def _to_csv(rows: Iterable[Sequence[str]]) -> str:
    """Write rows as text."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read_rows(path: Path, width: int) -> dict[str, list[str]]:
    """Read the rows of each item, as text, of a table that may end within a row."""
    rows: dict[str, list[str]] = {}
    if path.is_file():
        with _open_text(path, "r") as file, suppress(csv.Error):  # a cell that was not closed
            for row in csv.reader((line for line in file if line.endswith("\n")), strict=True):
                if len(row) == width:
                    rows.setdefault(row[0], []).append(_to_csv([row]))
    return rows


def _show(value: Any) -> str:
    """Write a value of a command in words."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
