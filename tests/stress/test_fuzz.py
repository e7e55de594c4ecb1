"""The fuzz itself: one case of every kind, so that it stays alive."""

import importlib
import os
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forks")
def test_one_input_of_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each ends as it should."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    fuzz = importlib.import_module("fuzz")
    ends, faulty = fuzz.run(tmp_path, 0, range(len(fuzz.KINDS)))
    assert not faulty and len(ends) == len(fuzz.KINDS), capfd.readouterr().out
