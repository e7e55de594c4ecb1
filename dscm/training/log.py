"""The log of a training: averages of its scalars, one JSON object a line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dscm.files import atomic_path, parse_json
from dscm.training.cuda_graph import Terms


class Log:
    """Append averages to ``log.jsonl``, one JSON object a line; resuming drops what came after the checkpoint.

    Args:
        path: the file.
        step: the step that the training starts from.
        state: the checkpoint to resume, with the sums since the last line; None starts afresh.
    """

    def __init__(self, path: Path, step: int, state: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.sums: dict[str, Tensor] = dict((state or {}).get("log_sums", {}))
        self.counts: dict[str, Tensor] = dict((state or {}).get("log_counts", {}))
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        with atomic_path(path) as temporary:
            kept = "".join(line + "\n" for line in lines if _is_kept(line, step))
            temporary.write_text(kept, encoding="utf-8")

    def state(self) -> dict[str, Any]:
        """Return the sums of the steps that no line holds yet, for a checkpoint."""
        return {"log_sums": self.sums, "log_counts": self.counts}

    def add(self, terms: Terms) -> None:
        """Add one step's scalars; NaN stands for one that no image of the batch contributes to."""
        for name, term in terms.items():
            known = torch.isfinite(term)
            before = self.sums.get(name, torch.zeros_like(term)).to(term.device)  # those of a checkpoint are on the CPU
            count = self.counts.get(name, torch.zeros_like(known, dtype=torch.long)).to(term.device)
            self.sums[name], self.counts[name] = before + torch.where(known, term, 0), count + known

    def write(self, step: int, seconds: float) -> dict[str, float]:
        """Append the averages since the last line, and return them; a scalar that was always NaN is left out."""
        means = {name: (self.sums[name] / self.counts[name]).item() for name in self.sums if self.counts[name]}
        self._append({"step": step, **means, "seconds": round(seconds, 1)})
        self.sums, self.counts = {}, {}
        return means

    def finish(self, step: int, seconds: float, report: Mapping[str, float]) -> None:
        """Append the averages of the last steps, if any are not written yet, and the final scores."""
        if self.sums:
            self.write(step, seconds)
        known = {name: value if math.isfinite(value) else None for name, value in report.items()}  # JSON has no NaN
        self._append({"step": step, "final": known})

    def _append(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def check_state(state: Mapping[str, Any]) -> None:
    """Check what a checkpoint holds of a log.

    Raises:
        ValueError, TypeError, AttributeError: these are no sums and counts of the same scalars.
    """
    sums, counts = dict(state.get("log_sums", {})), dict(state.get("log_counts", {}))
    if sums.keys() != counts.keys() or any(value.dim() for value in [*sums.values(), *counts.values()]):
        raise ValueError


def _is_kept(line: str, step: int) -> bool:
    """Tell whether a line of the log is whole and not after a step."""
    try:
        record = parse_json(line)
        return record["step"] <= step and "final" not in record
    except (ValueError, KeyError, TypeError):
        return False
