"""The log of a training run: one JSON object a line."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dscm.files import atomic_path


class Log:
    """Append averages to ``log.jsonl``; on resumption what came after the checkpoint is dropped.

    Args:
        path: the file.
        step: the step that the run starts from.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.sums, self.counts = path, {}, {}
        lines = [line for line in path.read_text().splitlines() if is_kept(line, step)] if path.exists() else []
        with atomic_path(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines))

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add one step's terms; NaN stands for a term that the batch has no images for."""
        for name, term in terms.items():
            known = torch.isfinite(term)
            self.sums[name] = self.sums.get(name, 0) + torch.where(known, term, 0)
            self.counts[name] = self.counts.get(name, 0) + known

    def write(self, step: int, seconds: float) -> dict[str, float]:
        """Append the averages since the last line, and return them; a term that no batch had is left out."""
        means = {name: (self.sums[name] / self.counts[name]).item() for name in self.sums if self.counts[name]}
        self._append({"step": step, **means, "seconds": round(seconds, 1)})
        self.sums, self.counts = {}, {}
        return means

    def finish(self, step: int, seconds: float, report: dict[str, float]) -> None:
        """Append the averages of the last steps, if any were not written yet, and the final figures."""
        if self.sums:
            self.write(step, seconds)
        self._append({"step": step, "final": report})

    def _append(self, record: dict[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def is_kept(line: str, step: int) -> bool:
    """Tell whether a line of the log is whole and not after ``step``."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return False
    return record["step"] <= step and "final" not in record
