"""The fuzz itself: one case of most kinds, so that it stays alive."""

import importlib
import os
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forks")
def test_one_input_of_most_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each ends as it should."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    fuzz = importlib.import_module("fuzz")
    kinds = [kind for kind in fuzz.KINDS if kind not in ("full", "settings", "fine")]  # which take longest
    ends, faulty = fuzz.run(tmp_path, 1, range(len(kinds)), kinds=kinds)
    assert not faulty and len(ends) == len(kinds), capfd.readouterr().out
