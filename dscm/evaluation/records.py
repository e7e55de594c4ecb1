"""What evaluate.py has measured so far: metrics.json, and beside it the numbers of every image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dscm.cli.arguments import check_output
from dscm.errors import InputError
from dscm.evaluation.protocol import PerImage
from dscm.files import atomic_path
from dscm.evaluation.statistics import bootstrap_interval, summarise

METRICS = "metrics.json"
VALUES = "values"  # folder of the numbers of every image
ABDUCTIONS = ("dynamic", "residual", "guided")  # in which order they are shown, after the plain one
IDENTITY = ("checkpoint_sha256", "guidance", "weights", "abduction", "cta_lr", "cta_steps", "cta_optimizer")
OTHER = {
    "data_sha256": "on other test digits (--data-dir)",
    "oracle_sha256": "with another --oracle",
    "attributes_sha256": "with other --attributes",
}
PERCEPTUAL = ("composition", "reversibility", "identity")  # metrics that LPIPS belongs to


class Results:
    """Records of one folder, all of the same test digits and settings, that grow one by one and are never lost.

    Args:
        folder: where they are kept; made when the first is added.
        common: the settings that all records share.
        overwrite: start over; otherwise what is there is kept and added to.

    Raises:
        InputError: the folder has other content, or records that are damaged or of other settings.
    """

    def __init__(self, folder: Path, common: Mapping[str, Any], overwrite: bool) -> None:
        self.folder, self.common = folder, dict(common)
        self.records: list[dict[str, Any]] = []
        self.starting_over = overwrite
        path = folder / METRICS
        if overwrite or not path.exists():
            unfinished = folder.is_dir() and [entry.name for entry in folder.iterdir()] == [VALUES]
            check_output(folder, overwrite or unfinished)
            return
        try:
            self.records = arrange(json.loads(path.read_text()))
            found = [{name: record[name] for name in (*IDENTITY, *common, "values")} for record in self.records]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: damaged, or of another version of this program; move it away, or start over with --overwrite"
            ) from error
        for record in found:
            for name, value in common.items():
                if record[name] != value:
                    was = f"with --{name.replace('_', '-')} {record[name]}, not {value}"
                    was = OTHER.get(name, was)
                    raise InputError(f"{path}: was measured {was}; name another --out, or start over with --overwrite")
            if not (folder / record["values"]).is_file():
                raise InputError(
                    f"{folder / record['values']}: missing, though {path} names it; start over with --overwrite"
                )
            self.values(record)

    @staticmethod
    def key(about: Mapping[str, Any]) -> tuple:
        """Return what tells a record from the others: the checkpoint and its settings."""
        return tuple(about[name] for name in IDENTITY)

    def keys(self, with_lpips: bool) -> set[tuple]:
        """Return the keys of the records that are there, with LPIPS where it is to be had."""
        return {self.key(r) for r in self.records if not with_lpips or r["composition"]["lpips"] is not None}

    def add(self, about: Mapping[str, Any], name: str, values: PerImage, images: Mapping[str, Tensor]) -> None:
        """Write the numbers of every image, then the record of their means and intervals; each atomically.

        Args:
            about: what was measured and how; must hold `IDENTITY`.
            name: of the file of the numbers.
            values: one number, or one a cycle, of every image.
            images: uint8 images to show, by label.
        """
        path = self.folder / VALUES / f"{name}.npz"
        arrays = {"/".join(key): value.cpu().numpy() for key, value in values.items()}
        arrays |= {f"image/{label}": image.cpu().numpy() for label, image in images.items()}
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)
        means = {key: to_plain(summarise(key[-1], value)) for key, value in values.items()}
        intervals = {key: to_plain(bootstrap_interval(key[-1], value).movedim(0, -1)) for key, value in values.items()}
        seconds = means.pop(("seconds",))
        del intervals[("seconds",)]
        record = {**about, **self.common, "values": str(path.relative_to(self.folder)), "seconds_per_image": seconds}
        record |= nest(with_null(means)) | {"intervals": nest(with_null(intervals))}
        self.records = arrange([r for r in self._merge() if self.key(r) != self.key(record)] + [record])
        self.starting_over = False
        with atomic_path(self.folder / METRICS) as temporary:
            temporary.write_text(json.dumps(self.records, indent=1, ensure_ascii=False) + "\n")

    def _merge(self) -> list[dict[str, Any]]:
        """Return the records, and those that another process has added to the file in the meantime."""
        path, own = self.folder / METRICS, {self.key(record) for record in self.records}
        found = json.loads(path.read_text()) if path.exists() and not self.starting_over else []
        return self.records + [record for record in found if self.key(record) not in own]

    def values(self, record: Mapping[str, Any]) -> dict[str, Tensor]:
        """Read the numbers of every image of a record, by ``a/b/c``; ``image/…`` are pictures.

        Raises:
            InputError: the file is damaged.
        """
        path = self.folder / record["values"]
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: torch.from_numpy(archive[name]) for name in archive.files}
        except Exception as error:  # damaged bytes make the reader raise nearly anything
            raise InputError(f"{path}: damaged; start over with --overwrite, or in another --out") from error


def arrange(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort records by checkpoint, as these were first measured, ω, abduction, and how null tokens were tuned."""
    checkpoints = list(dict.fromkeys(record["checkpoint_sha256"] for record in records))

    def order(record: Mapping[str, Any]) -> tuple:
        abduction = ABDUCTIONS.index(record["abduction"]) if record["abduction"] in ABDUCTIONS else -1
        tuning = record["cta_optimizer"] == "adam", record["cta_steps"] or 0, record["cta_lr"] or 0
        guidance = record["guidance"] or 0, record["weights"] or ""
        return checkpoints.index(record["checkpoint_sha256"]), guidance, abduction, tuning

    return sorted(records, key=order)


def to_plain(values: Tensor) -> Any:
    """Turn a tensor into numbers and lists; None stands for NaN, a ratio to which no image counts."""
    if values.dim():
        return [to_plain(value) for value in values]
    return None if values.isnan() else values.item()


def with_null(flat: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    """Add None for every LPIPS that belongs beside an L1 and is not there."""
    missing = {
        (*key[:-1], key[-1].replace("l1", "lpips")): None
        for key in flat
        if key[0] in PERCEPTUAL and key[-1] in ("l1", "factual_l1")
    }
    return missing | dict(flat)


def nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Turn paths into nested dictionaries."""
    result: dict[str, Any] = {}
    for path, value in flat.items():
        level = result
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = value
    return result


def lookup(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Follow a path into nested dictionaries; None where it ends early."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
