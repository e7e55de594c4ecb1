"""The fuzz itself: a few of its cases, so that it stays alive."""

from pathlib import Path

from tests.support.scripts import run_script


def test_a_few_inputs_of_every_kind(tmp_path: Path) -> None:
    """Each ends as it should."""
    done = run_script("tests/stress/fuzz.py", "--n", 13, "--keep", tmp_path)
    assert done.returncode == 0 and "13 cases, 0 with faults" in done.stdout, done.stdout + done.stderr
