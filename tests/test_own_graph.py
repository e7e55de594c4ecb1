"""A data set and a graph that the program has never seen, through all three scripts and the notebook's API."""

import csv
import doctest
import json
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import shapes
import torch
from conftest import MACHINE, ROOT
from PIL import Image

import dscm
from dscm import model as model_module
from dscm import runs
from dscm.errors import InputError

Call = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 shapes in images/, and graph.json beside it."""
    folder = tmp_path_factory.mktemp("shapes")
    shapes.write_set(folder / "images", 60)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory, run_script: Call) -> Path:
    """A run folder with every part, each trained for a step or two."""
    folder = tmp_path_factory.mktemp("run") / "run"
    for part, steps in (("attributes", 20), ("oracle", 2), ("image", 2)):
        graph = ("--graph", data / "graph.json") if part == "attributes" else ()  # the others find it in the run
        brief = ("--part", part, "--steps", steps, "--batch", 8, "--run", folder, *where(data), *graph)
        done = run_script("train.py", *brief)
        assert done.returncode == 0, done.stderr
    return folder


def where(data: Path) -> tuple:
    return "--data-dir", data / "images", "--cache-dir", data / "cache", *MACHINE


def test_a_damaged_note_of_where_the_data_lie(run: Path, data: Path, tmp_path: Path) -> None:
    assert runs.find_data(run) == (data / "images", ())
    (tmp_path / "data.json").write_text("[]")
    with pytest.raises(InputError, match="data.json: damaged"):
        runs.find_data(tmp_path)


def test_a_run_explains_itself(run: Path, data: Path, call_script: Call) -> None:
    """README.txt has the command and the results of each part, and the soundness once it is measured."""
    measured = ("--n", 4, "--steps", 2, "--guidance", 1, "--oracle-accuracy", 0)
    named = ("--data", "folder", "--graph", data / "graph.json")
    done = call_script("evaluate.py", "--run", run, *named, *measured, "--cache-dir", data / "cache", *MACHINE)
    assert done.returncode == 0, done.stderr
    text = (run / "README.txt").read_text()
    assert [title for title in re.findall("^== (.*) ==$", text, re.M)] == ["attributes", "oracle", "image", "soundness"]
    for part in ("attributes", "oracle", "image"):
        assert re.search(f"^python .*train.py --part {part} ", text, re.M)
    assert "nll warmth: " in text and "test R² size: " in text and "| semantic ω=1 |" in text
    assert json.loads((run / "graph.json").read_text()) == shapes.GRAPH
    with Image.open(run / "attributes" / "calibration.png") as picture:
        assert picture.width > 100
    (record,) = json.loads((run / "soundness" / "metrics.json").read_text())
    assert record["effectiveness"]["kind"].keys() == {"size", "warmth", "kind", "striped"}


def test_queries_by_label(run: Path, data: Path, tmp_path: Path, call_script: Call) -> None:
    asked = ("--do", "kind=cross", "--do", "striped=flip,size=*0.9", "--steps", 2, "--guidance", 1)
    done = call_script("counterfactual.py", data / "images", "--run", run, *asked, "--out", tmp_path / "out", *MACHINE)
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


def test_a_notebook(run: Path, data: Path) -> None:
    """Paths, pictures and arrays are the same observation; composition returns the attributes, and do sets them."""
    model = dscm.load(run)
    model.mechanism.sampling = model.mechanism.sampling.__class__(guidance=1.0, steps=3)
    path = data / "images" / "00000.png"
    with Image.open(path) as file:
        picture = file.convert("RGB")
    array = np.asarray(picture)
    channels_first = torch.from_numpy(array.transpose(2, 0, 1).copy())
    observations = model.observe([path, str(path), picture, array, channels_first, channels_first / 255])
    assert observations["image"].shape == (6, 3, 32, 32) and observations["image"].dtype == torch.uint8
    assert (observations["image"] == observations["image"][:1]).all()
    known = {"size": [0.5], "warmth": [0.25], "kind": [2], "striped": [1]}
    obs = model.observe([path], known)
    noise = model.abduct(obs)
    again = model.predict(noise)
    for name, (value,) in known.items():
        assert again[name].item() == pytest.approx(value, abs=1e-5)
    answer = model.predict(noise, {"size": 0.7})
    assert answer["size"].item() == pytest.approx(0.7) and answer["image"].dtype == torch.uint8
    direct = model.effect(obs, noise, {"size": 0.7}, "direct")
    assert direct["warmth"].item() == pytest.approx(0.25, abs=1e-5)
    assert model.sample(3, seed=1)["image"].shape == (3, 3, 32, 32)
    for ask in (model.predict, partial(model.effect, obs, kind="total")):
        with pytest.raises(InputError, match="size must be 0.3 to 0.9"):
            ask(noise=noise, do={"size": 2.0})
    with pytest.raises(InputError, match="size must be 0.3 to 0.9"):
        model.sample(1, do={"size": 2.0})
    grey = Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32))
    colours = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    for picture in (colours.convert("P"), colours.convert("RGBA"), colours.convert("1"), grey):
        expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(model.observe([picture], known)["image"][0].numpy(), expected), picture.mode
    with pytest.raises(InputError, match="No such file"):
        model.observe([data / "absent.png"])


def test_the_example_of_load() -> None:
    assert doctest.testmod(model_module).failed == 0


def test_the_readme_s_notebook() -> None:
    """The README's Python runs as written."""
    (code,) = re.findall("```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    exec(compile(code, "README.md", "exec"), {})


def test_load_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        dscm.load(tmp_path / "absent")
    with pytest.raises(InputError, match="has no trained mechanism of the image"):
        dscm.load(tmp_path)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = dscm.lode


def test_check_reads_everything_and_trains_nothing(data: Path, tmp_path: Path, call_script: Call) -> None:
    graph = ("--data", "folder", "--graph", data / "graph.json")
    done = call_script("train.py", "--check", *graph, "--run", tmp_path / "run", "--batch", 4, *where(data))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^train: \d+ images of 3×32×32$", done.stdout, re.M)
    assert re.search(r"^kind \(categorical\): train disk .*%, square .*%, cross .*%; test ", done.stdout, re.M)
    assert re.search(
        r"^training: .* s a step, about .* hours for 30000 steps; .* GiB of memory on cpu$", done.stdout, re.M
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["graph.png"]


def test_check_says_what_is_wrong(tmp_path: Path, call_script: Call) -> None:
    shapes.write_set(tmp_path / "images", 40)
    table = tmp_path / "images" / "attributes.csv"
    graph = ("--data", "folder", "--graph", tmp_path / "graph.json", "--run", tmp_path / "run")
    text = table.read_text()
    table.write_text(re.sub(r",[01]\n", ",1\n", text.replace("\r\n", "\n")))
    done = call_script("train.py", "--check", *graph, "--batch", 4, *where(tmp_path))
    assert done.returncode == 0 and "wrong: striped is constant in the train split: 1\n" in done.stdout
    table.write_text(text.replace("cross", "star"))
    done = call_script("train.py", "--check", *graph, *where(tmp_path))
    assert done.returncode == 2
    assert re.search(r"attributes.csv, line \d+, column 'kind': 'star'; allowed: disk, square, cross$", done.stderr)


def test_one_run_has_one_graph(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="graph.json: is another graph than morphomnist"):
        runs.write_graph(run, dscm.graphs.get_graph("morphomnist"))
    runs.write_graph(tmp_path / "new", dscm.graphs.get_graph("morphomnist"))
    again = dscm.graphs.read_graph(tmp_path / "new" / "graph.json")
    assert again.key == "morphomnist", "a copy of a built-in graph is that graph"


def test_chapters_are_replaced_in_place(tmp_path: Path) -> None:
    for title, text in (("image", "one"), ("oracle", "two"), ("image", "three == four")):
        runs.describe(tmp_path, title, text)
    text = (tmp_path / "README.txt").read_text()
    assert text.index("== image ==\n\nthree == four") < text.index("== oracle ==\n\ntwo") and "one" not in text[100:]
