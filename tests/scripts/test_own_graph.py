"""A data set and a graph that the program has never seen, through all three scripts."""

import csv
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support import shapes
from tests.support.scripts import MACHINE, call_script

Call = Callable[..., subprocess.CompletedProcess]


def test_a_run_explains_itself(shapes_run: Path, shapes_folder: Path) -> None:
    """README.txt has the command and the results of each part, and the soundness once it is measured."""
    measured = ("--n", 4, "--steps", 2, "--guidance", 1, "--set", "oracle_accuracy=0")
    done = call_script("evaluate.py", "--run", shapes_run, *measured, "--cache-dir", shapes_folder / "cache", *MACHINE)
    assert done.returncode == 0, done.stderr
    text = (shapes_run / "README.txt").read_text()
    assert re.findall("^== (.*) ==$", text, re.M) == ["attributes", "oracle", "image", "soundness"]
    for part in ("attributes", "oracle", "image"):
        assert re.search(f"^python .*train.py --part {part} ", text, re.M)
    assert "nll warmth: " in text and "test R² size: " in text and "| semantic ω=1 |" in text
    assert json.loads((shapes_run / "graph.json").read_text()) == shapes.GRAPH
    with Image.open(shapes_run / "attributes" / "calibration.png") as picture:
        assert picture.width > 100
    (record,) = json.loads((shapes_run / "soundness" / "metrics.json").read_text())
    assert record["effectiveness"]["kind"].keys() == {"size", "warmth", "kind", "striped"}


def test_queries_by_label(shapes_run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    asked = ("--do", "kind=cross", "--do", "striped=flip,size=*0.9", "--steps", 2, "--guidance", 1)
    done = call_script(
        "counterfactual.py", shapes_folder / "images", "--run", shapes_run, *asked, "--out", tmp_path / "out", *MACHINE
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "counterfactuals.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    crosses, smaller = rows[::2], rows[1::2]
    assert {row["query"] for row in rows} == {"kind=cross", "striped=flip,size=*0.9"}
    rows = sorted(rows, key=lambda row: row["query"])
    crosses, smaller = rows[:60], rows[60:]
    assert all(row["counterfactual_kind"] == "cross" and row["kind"] in shapes.KINDS for row in crosses)
    for row in smaller:
        assert int(row["counterfactual_striped"]) == 1 - int(row["striped"])
        assert float(row["counterfactual_size"]) == pytest.approx(0.9 * float(row["size"]), abs=1e-4)
