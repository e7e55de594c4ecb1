"""A training in a folder: its log."""

import json
from pathlib import Path

import torch

from dscm.training.run import Log


def test_log_of_a_term_without_images(tmp_path: Path) -> None:
    """A loss that no image of any batch contributed to is unknown; it is not zero."""
    log = Log(tmp_path / "log.jsonl", 0)
    log.add({"loss": torch.tensor(2.0), "null": torch.tensor(float("nan"))})
    log.write(1, 0.0)
    record = json.loads((tmp_path / "log.jsonl").read_text())
    assert record["loss"] == 2 and record.get("null") is None
