"""The records of an evaluation: metrics.json, and beside it the numbers of every image."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dscm.errors import InputError, option
from dscm.evaluation.configuration import Conditions, Configuration
from dscm.evaluation.protocol import PerImage
from dscm.evaluation.route import Route
from dscm.evaluation.statistics import bootstrap_interval, summarise
from dscm.files import UNFINISHED, atomic_path, parse_json
from dscm.runs import check_output

METRICS = "metrics.json"
VALUES = "values"  # folder of the numbers of every image
IMAGE = "image/"  # prefix of the names of images among those numbers
PERCEPTUAL = ("composition", "reversibility", "identity")  # metrics that are distances between images


@dataclass(frozen=True)
class Record:
    """One row of the tables.

    Args:
        configuration: the settings of the row.
        conditions: those of the folder.
        values: the file of the numbers of every image, relative to the folder.
        seconds: per image, of an abduction and a prediction.
        metrics, intervals: nested by the path of a metric: its mean over the images, and its 95% interval.
    """

    configuration: Configuration
    conditions: Conditions
    values: str
    seconds: float
    metrics: Mapping[str, Any]
    intervals: Mapping[str, Any]

    @property
    def has_lpips(self) -> bool:
        """Tell whether LPIPS was available."""
        return all(distances["lpips"] is not None for distances in self.metrics["composition"].values())

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Record":
        """Read an entry of metrics.json.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        if entry.get("tolerance"):
            raise ValueError("a solver of another version")
        configuration, conditions = Configuration.from_json(entry), Conditions.from_json(entry)
        metrics = {name: value for name, value in entry.items() if isinstance(value, dict) or name == "unsolved"}
        intervals = metrics.pop("intervals")
        return cls(configuration, conditions, str(entry["values"]), entry["seconds_per_image"], metrics, intervals)

    def to_json(self) -> dict[str, Any]:
        """Return an entry of metrics.json."""
        settings = {**self.configuration.to_json(), **dataclasses.asdict(self.conditions)}
        measured = {"values": self.values, "seconds_per_image": self.seconds, **self.metrics}
        return {**settings, **measured, "intervals": self.intervals}


class Records:
    """The records of one folder, which grow one by one and are never lost.

    Args:
        folder: where they are kept; made when the first is added.
        conditions: the same for all records.
        overwrite: start over; otherwise existing records are kept and added to.

    Raises:
        InputError: the folder has other content, or records that are damaged or were measured under other conditions.
    """

    def __init__(self, folder: Path, conditions: Conditions, overwrite: bool) -> None:
        self.folder, self.conditions = folder, conditions
        self.records: list[Record] = []
        self.starting_over = overwrite
        path = folder / METRICS
        if overwrite or not path.exists():
            names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
            stopped = {name for name in names if not name.startswith(UNFINISHED)} == {VALUES}
            check_output(folder, overwrite or stopped)
            return
        try:
            self.records = arrange(self._read())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: damaged, or of another version of this program; move it away, or start over with "
                f"{option('overwrite')}"
            ) from error
        for record in self.records:
            conditions.check(record.conditions, path)
            if not (folder / record.values).is_file():
                raise InputError(
                    f"{folder / record.values}: missing, though {path} names it; start over with {option('overwrite')}"
                )
            if not _agrees(record, self.values(record)):
                raise InputError(
                    f"{path}: damaged: it has other metrics than {record.values}; start over with {option('overwrite')}"
                )

    @property
    def labels(self) -> list[str]:
        """Return the names of the rows, each in a few words."""
        rows = [record.configuration for record in self.records]
        return [row.label(rows) for row in rows]

    @property
    def routes(self) -> list[Route | None]:
        """Return the paths of the rows."""
        return [record.configuration.route for record in self.records]

    def check_routes(self, rows: Iterable[Configuration]) -> None:
        """Check that rows to measure that have a record were measured along the same path.

        Raises:
            InputError: along another one.
        """
        old = {record.configuration: record.configuration for record in self.records}
        for row in rows:
            if row in old:
                row.check_route(old[row], self.folder / METRICS)

    def measured(self, with_lpips: bool) -> set[Configuration]:
        """Return the configurations that are measured already, with LPIPS where it is available."""
        complete = [r for r in self.records if not with_lpips or r.has_lpips]
        return {record.configuration for record in complete}

    def name_groups(self, rows: Iterable[Configuration]) -> None:
        """Give records that were measured before the name of the setting that their trainings now share, if any."""
        groups = {row: row.group for row in rows if row.group}
        old = [record.configuration for record in self.records]
        new = [replace(row, group=groups.get(row, row.group)) for row in old]
        if any(row.group != before.group for row, before in zip(new, old)):
            self.records = [replace(record, configuration=row) for record, row in zip(self.records, new)]
            self._write(arrange(self._merge()))

    def add(self, configuration: Configuration, name: str, values: PerImage, images: Mapping[str, Tensor]) -> None:
        """Write the numbers of every image, then the record of their means and intervals; each atomically.

        Args:
            configuration: the settings of the row.
            name: the name of the file with the numbers.
            values: one number, or one a cycle, of every image.
            images: uint8 images to show, by label.
        """
        path = self.folder / VALUES / f"{name}.npz"
        arrays: dict[str, Any] = {"/".join(key): value.cpu().numpy() for key, value in values.items()}
        arrays |= {f"{IMAGE}{label}": image.cpu().numpy() for label, image in images.items()}
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)
        means = {key: to_plain(summarise(key[-1], value)) for key, value in values.items()}
        intervals = {key: to_plain(bootstrap_interval(key[-1], value).movedim(0, -1)) for key, value in values.items()}
        seconds = means.pop(("seconds",))
        del intervals[("seconds",)]
        nested = nest(with_null(means)), nest(with_null(intervals))
        record = Record(configuration, self.conditions, str(path.relative_to(self.folder)), seconds, *nested)
        self._write(arrange([r for r in self._merge() if r.configuration != configuration] + [record]))

    def values(self, record: Record) -> dict[str, Tensor]:
        """Read the numbers of every image of a record, by ``a/b/c``; ``image/…`` are pictures.

        Raises:
            InputError: the file is damaged.
        """
        path = self.folder / record.values
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: torch.from_numpy(archive[name]) for name in archive.files}
        except Exception as error:  # damaged bytes make the reader raise nearly anything
            raise InputError(
                f"{path}: damaged; start over with {option('overwrite')}, or in another {option('out')}"
            ) from error

    def images(self, record: Record) -> dict[str, Tensor]:
        """Read the images of a record, uint8 (N, C, H, W), by label."""
        values = self.values(record)
        return {name.removeprefix(IMAGE): value for name, value in values.items() if name.startswith(IMAGE)}

    def _read(self) -> list[Record]:
        """Read metrics.json."""
        entries = parse_json((self.folder / METRICS).read_text(encoding="utf-8"))
        return [Record.from_json(entry) for entry in entries]

    def _write(self, records: list[Record]) -> None:
        """Keep records, and write metrics.json."""
        self.records, self.starting_over = records, False
        with atomic_path(self.folder / METRICS) as temporary:
            text = json.dumps([record.to_json() for record in records], indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    def _merge(self) -> list[Record]:
        """Return the records, and those that another process has added to the file in the meantime."""
        known = {record.configuration for record in self.records}
        stored = [] if self.starting_over or not (self.folder / METRICS).exists() else self._read()
        return self.records + [record for record in stored if record.configuration not in known]


def arrange(records: Iterable[Record]) -> list[Record]:
    """Sort records by checkpoint, as these were first measured, ω, abduction, and alignment."""
    records = list(records)
    checkpoints = list(dict.fromkeys(record.configuration.sha256 for record in records))
    return sorted(records, key=lambda r: (checkpoints.index(r.configuration.sha256), r.configuration.order()))


def _agrees(record: Record, values: Mapping[str, Tensor]) -> bool:
    """Tell whether the metrics and intervals of a record have the form of the numbers that they sum up."""
    numbers = {tuple(name.split("/")): value for name, value in values.items() if not name.startswith(IMAGE)}
    means = {key: summarise(key[-1], value) for key, value in numbers.items() if key != ("seconds",)}
    intervals = {key: torch.stack([mean, mean], -1) for key, mean in means.items()}
    found = record.metrics, record.intervals, record.seconds
    expected = *(nest(with_null({key: to_plain(v) for key, v in flat.items()})) for flat in (means, intervals)), 0.0
    return _form(found) == _form(expected)


def _form(value: Any) -> Any:
    """Return the names and lengths of nested metrics, without the numbers; None stays, as it has no number."""
    if isinstance(value, Mapping):
        return {name: _form(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_form(inner) for inner in value]
    return "number" if type(value) in (int, float) else value


def to_plain(values: Tensor) -> Any:
    """Convert a tensor to numbers and lists; None stands for NaN, a ratio to which no image counts."""
    if values.dim():
        return [to_plain(value) for value in values]
    return None if values.isnan() else values.item()


def with_null(flat: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    """Add None for every LPIPS that is missing beside an L1."""
    missing = {
        (*key[:-1], key[-1].replace("l1", "lpips")): None
        for key in flat
        if key[0] in PERCEPTUAL and key[-1] in ("l1", "factual_l1")
    }
    return missing | dict(flat)


def nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Convert paths to nested dictionaries."""
    result: dict[str, Any] = {}
    for path, value in flat.items():
        level = result
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = value
    return result


def lookup(nested: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Follow a path into nested dictionaries; None where it ends early."""
    value: Any = nested
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
