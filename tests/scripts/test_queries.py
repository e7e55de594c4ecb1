"""Effects and samples from the command line."""

import csv
import json
from pathlib import Path

import pytest

from tests.support import shapes
from tests.support.scripts import FAST, call_script, copy_digits, refuse


def test_effects_from_the_command_line(tmp_path: Path) -> None:
    """Thickness acts on the image itself and through intensity; the table says which of them each picture was given."""
    folder = copy_digits(tmp_path / "digits", ["0.png", "1.png"])
    effects = ("--effect", "total", "direct", "indirect")
    asked = ("--do", "thickness=+1", "--guidance", 1, "--out", tmp_path / "out", *effects)
    done = call_script("counterfactual.py", folder, *asked, *FAST)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "counterfactuals.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] == "0.png"]
    total, direct, indirect = rows
    assert [row["query"] for row in rows] == ["thickness=+1", "thickness=+1__direct", "thickness=+1__indirect"]
    thickness, intensity = (float(total[name]) for name in ("thickness", "intensity"))
    assert float(total["counterfactual_thickness"]) == pytest.approx(thickness + 1, abs=1e-3)
    assert float(total["counterfactual_intensity"]) > intensity
    assert direct["counterfactual_thickness"] == total["counterfactual_thickness"]
    assert float(direct["counterfactual_intensity"]) == pytest.approx(intensity, abs=1e-2)
    assert float(indirect["counterfactual_thickness"]) == pytest.approx(thickness, abs=1e-3)
    assert indirect["counterfactual_intensity"] == total["counterfactual_intensity"]
    assert (tmp_path / "out" / "0__thickness=+1__direct.png").exists()


def test_samples_are_a_folder_to_ask_about(tmp_path: Path) -> None:
    """Drawn under do, they have what was set, and what follows from it; and they can be asked about in turn."""
    drawn = ("--sample", 5, "--do", "digit=3,thickness=4", "--batch", 2, "--guidance", 1, *FAST)
    done = call_script("counterfactual.py", *drawn, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert call_script("counterfactual.py", *drawn, "--out", tmp_path / "b").returncode == 0
    images = tmp_path / "a" / "images"
    with open(images / "attributes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["digit"], row["thickness"]) for row in rows] == [("3", "4")] * 5
    assert all(float(row["intensity"]) > 200 for row in rows)
    for path in images.iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "images" / path.name).read_bytes(), "same seed, same bytes"
    asked = ("--do", "digit=4", "--guidance", 1, *FAST)
    assert call_script("counterfactual.py", images, *asked, "--out", tmp_path / "answers").returncode == 0
    for do, message in (("thickness=+1", "nothing is observed"), ("digit=12", "digit must be a whole number")):
        assert message in refuse("counterfactual.py", "--sample", 2, "--do", do, "--out", tmp_path / "c", *FAST)
    assert "takes no images" in refuse("counterfactual.py", images, "--sample", 2, "--out", tmp_path / "c", *FAST)
    assert "nothing is asked" in refuse("counterfactual.py", images, "--out", tmp_path / "c", *FAST)


def test_data_and_graph_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(shapes.GRAPH))
    out = ("--out", tmp_path / "run")
    assert "--data folder: give its causal graph with --graph" in refuse("train.py", "--data", "folder", *out)
    error = refuse("train.py", "--data", "embed", "--graph", path, *out)
    assert error.endswith("graph.json is a graph for --data folder")


def test_soft_changes_from_the_command_line(tmp_path: Path) -> None:
    """Intensity follows thickness, then the change; where that leaves the domain, the image is not answered."""
    folder = copy_digits(tmp_path / "digits", ["0.png", "1.png"])
    asked = ("--do", "thickness=2.5", "--do", "thickness=2.5,intensity=soft:+-20", "--do", "intensity=soft:+500")
    done = call_script("counterfactual.py", folder, *asked, "--guidance", 1, "--out", tmp_path / "out", *FAST)
    assert done.returncode == 1 and "not answered: 0.png under intensity=soft:+500: intensity would be" in done.stderr
    with open(tmp_path / "out" / "counterfactuals.csv", newline="") as file:
        values = [float(row["counterfactual_intensity"]) for row in csv.DictReader(file)]
    assert len(values) == 4 and [values[0] - values[1], values[2] - values[3]] == pytest.approx([20, 20], abs=1e-3)
    assert (tmp_path / "out" / "0__thickness=2.5,intensity=soft-+-20.png").exists()
    drawn = ("--sample", 2, "--do", "thickness=2.5,intensity=soft:+-20", "--out", tmp_path / "drawn", *FAST)
    assert call_script("counterfactual.py", *drawn).returncode == 0
