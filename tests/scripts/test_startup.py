"""What a command imports before it has read its arguments."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("scipy", "torchvision", "lpips", "matplotlib")  # each takes as long to import as all of this package


@pytest.mark.parametrize("name", ["train", "counterfactual", "evaluate"])
def test_help_waits_for_torch_alone(name: str) -> None:
    """What else is large is imported where it is needed."""
    program = f"import sys, {name}; print(*(module for module in {HEAVY} if module in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
