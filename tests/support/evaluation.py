"""Evaluations of evaluate.py, read back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARENTS = ["thickness", "intensity", "digit", "slant"]
SETTINGS = ("--n", 5, "--steps", 2, "--guidance", 1, 3, "--set", "cycles=2")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Read metrics.json."""
    return json.loads((folder / "metrics.json").read_text())


def numbers(record: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a nested record with its path."""
    entries = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for key, value in entries:
        yield from numbers(value, f"{path}.{key}")
    if isinstance(record, int | float):
        yield path, record
