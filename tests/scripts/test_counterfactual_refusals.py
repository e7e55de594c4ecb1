"""What counterfactual.py refuses, in one line that says what would be right, and without writing anything."""

import csv
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm import assets
from tests.support.scripts import FAST, call_script, copy_digits, refuse, the_error, write_table

RunScript = Callable[..., subprocess.CompletedProcess]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("width=5", "unknown variable 'width'; known: thickness (0.5 to 10 px), intensity"),
        ("image=1", "unknown variable 'image'"),
        ("thickness=11", "--do thickness=11: thickness must be 0.5 to 10 px"),
        ("thickness=nan", "thickness must be 0.5 to 10 px"),
        ("intensity=inf", "intensity must be 0 to 255 grey levels"),
        ("digit=10", "digit must be a whole number, 0 to 9"),
        ("digit=3.5", "digit must be a whole number, 0 to 9"),
        ("digit=three", "--do digit=three: digit must be a whole number, 0 to 9"),
        ("digit=+1", "digit is not a number to add to or to multiply"),
        ("slant=+", "--do slant=+: '' is not a finite number"),
        ("thickness=*9", "--do thickness=*9: thickness would be 13.7191; allowed: 0.5 to 10 px (0.png, and"),
        ("digit=flip", "only a binary variable flips"),
        ("digit=@9.png", "9.png is not an image of "),
        ("digit=@other", "must be @FILE.csv:COLUMN, or @IMAGE"),
        ("digit=@none.csv:digit", "none.csv: cannot be read: No such file"),
        ("digit", "'digit' is not of the form name=value"),
        ("digit=3,", "'' is not of the form name=value"),
        ("", "'' is not of the form name=value"),
        ("digit=3,slant=0.1,digit=4", "digit is set twice"),
        ("slant=0.1,width=5", "unknown variable 'width'"),
    ],
)
def test_refused_queries(digits: Path, tmp_path: Path, query: str, message: str) -> None:
    out = tmp_path / "out"
    assert message in refuse("counterfactual.py", digits, "--do", "slant=0", "--do", query, "--out", out, *FAST)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", 0), "--steps 0: must be an integer, at least 1"),
        (("--guidance", 0), "--guidance 0: must be a number, more than 0"),
        (("--guidance", "inf"), "--guidance inf: must be a number, more than 0"),
        (("--batch", 0), "argument --batch"),
        (("--set", "fixed_point=-1"), "--set fixed_point -1: must be an integer, at least 0"),
        (("--set", "grid=square"), "--set grid square: must be one of log-sigma, edm, uniform"),
        (("--guidance-interval", 5, 1), "--guidance-interval 5 1: the first must not be above the second"),
        (("--set", "cta_lr=0"), "--set cta_lr 0: must be a number, more than 0"),
        (("--set", "cta_steps=0"), "--set cta_steps 0: must be an integer, at least 1"),
        (("--device", "abacus"), "--device abacus: not available here; available: cpu"),
        (("--device", "meta"), "--device meta: not available here; available: cpu"),
    ],
)
def test_refused_arguments(digits: Path, tmp_path: Path, arguments: tuple, message: str) -> None:
    out = tmp_path / "out"
    assert message in refuse("counterfactual.py", digits, "--do", "digit=3", "--out", out, *FAST, *arguments)
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_refuses_an_absent_gpu(digits: Path, tmp_path: Path) -> None:
    error = refuse("counterfactual.py", digits, "--do", "digit=3", "--out", tmp_path / "out", "--device", "cuda")
    assert "--device cuda: not available here; available: cpu" in error
    assert not (tmp_path / "out").exists()


def test_requires_a_query(digits: Path, tmp_path: Path) -> None:
    assert "--do" in refuse("counterfactual.py", digits, "--out", tmp_path / "out")


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    """One line, the exit code, and no folder made."""
    (tmp_path / "empty").mkdir()
    done = call_script("counterfactual.py", tmp_path / "empty", "--do", "digit=3", "--out", tmp_path / "out", *FAST)
    assert done.returncode == 2 and done.stdout == ""
    assert f"{tmp_path / 'empty'}: no images in it" in the_error(done.stderr)
    assert not (tmp_path / "out").exists()


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    error = refuse("counterfactual.py", tmp_path / "missing", "--do", "digit=3", "--out", tmp_path / "out", *FAST)
    assert f"{tmp_path / 'missing'}: no such folder" in error
    assert not (tmp_path / "out").exists()


def with_cell(column: str, value: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    return lambda rows: [rows[0], rows[1] | {column: value}]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda rows: rows[:1],
            "no row for '1.png' (1 of 2 images have none: '1.png'); add them, or leave",
        ),
        (lambda rows: [*rows, rows[1]], "line 4: '1.png' is already on line 3"),
        (lambda rows: [*rows, rows[1] | {"image": "2.png"}], "line 4: '2.png' is not an image of the folder (1 such"),
        (with_cell("thickness", "thick"), "line 3, column 'thickness': 'thick' is not a finite number"),
        (
            with_cell("intensity", ""),
            "line 3, column 'intensity': '' is no value (1 rows lack one); fill it in",
        ),
        (with_cell("slant", "nan"), "line 3, column 'slant': 'nan' is no value"),
        (with_cell("digit", "12"), "line 3, column 'digit': '12'; allowed: 0, 1, 2"),
        (with_cell("digit", "-1"), "line 3, column 'digit': '-1'; allowed: 0, 1, 2"),
        (with_cell("thickness", "11"), "thickness of 1.png is 11; allowed: 0.5 to 10 px"),
        (with_cell("digit", "2.5"), "line 3, column 'digit': '2.5'; allowed: 0, 1, 2"),
    ],
)
def test_refused_tables(tmp_path: Path, spoil: Callable, message: str) -> None:
    folder = copy_digits(tmp_path / "images", ["0.png", "1.png"])
    with open(folder / "attributes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    write_table(folder, spoil(rows))
    error = refuse("counterfactual.py", folder, "--do", "digit=3", "--out", tmp_path / "out", *FAST)
    assert f"{folder / 'attributes.csv'}" in error and message in error
    assert not (tmp_path / "out").exists()


class Touch:
    """When unpickled, create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def bundled(**changes: Any) -> dict[str, Any]:
    """Read the bundled checkpoint's content and change entries of it."""
    return torch.load(assets.find("semantic"), weights_only=True) | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such checkpoint"),
        (b"", "truncated or not a checkpoint"),
        (b"hello\n", "not a checkpoint"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9", "truncated or not a checkpoint"),  # old torch, cut
        (assets.find("semantic").read_bytes()[:100_000], "truncated or not a checkpoint"),
        (assets.find("oracle").read_bytes(), "holds a model of kind 'oracle'; 'image' is needed"),
        ({"state_dict": {"weight": torch.zeros(3)}}, "not a checkpoint of dscm"),
        ([1, 2], "not a checkpoint of dscm"),
        (lambda: bundled(format=99), "checkpoint format 99; this program reads format 1"),
        (lambda: bundled(model={}), "do not fit"),
        (lambda: bundled(model=[1]), "do not fit"),
        (lambda: bundled(config={"size": 28, "unet": {"channels": 33}}), "do not fit"),
        (lambda: bundled(graph="weather"), "unknown graph 'weather'"),
    ],
    ids=["missing", "empty", "text", "old-torch-cut", "truncated", "oracle", "state-dict", "list", "format",
         "no-weights", "weights-not-a-dict", "impossible-size", "unknown-graph"],
)  # fmt: skip
def test_refused_checkpoints(digits: Path, tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content() if callable(content) else content, path)
    arguments = ("--do", "digit=3", "--checkpoint", path, "--out", tmp_path / "out", *FAST)
    error = refuse("counterfactual.py", digits, *arguments)
    assert str(path) in error and message in error
    assert not (tmp_path / "out").exists()


def save_pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("save", [torch.save, save_pickle])
def test_code_in_a_checkpoint_is_not_run(digits: Path, tmp_path: Path, save: Callable) -> None:
    """Neither in torch's format nor as a bare pickle."""
    save(bundled(model=Touch(tmp_path / "ran")), tmp_path / "evil.pt")
    arguments = ("--do", "digit=3", "--checkpoint", tmp_path / "evil.pt", "--out", tmp_path / "out", *FAST)
    done = call_script("counterfactual.py", digits, *arguments)
    assert done.returncode == 2
    assert not (tmp_path / "ran").exists()
    assert f"{tmp_path / 'evil.pt'}: not a checkpoint of dscm" in the_error(done.stderr)
    assert not (tmp_path / "out").exists()


def test_refuses_an_image_model_as_oracle(digits: Path, tmp_path: Path) -> None:
    arguments = ("--do", "digit=3", "--oracle", assets.find("spatial"), "--out", tmp_path / "out", *FAST)
    assert "kind 'image'; 'oracle' is needed" in refuse("counterfactual.py", digits, *arguments)
    assert not (tmp_path / "out").exists()


def test_refuses_a_folder_with_content(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    error = refuse("counterfactual.py", digits, "--do", "digit=3", "--out", tmp_path, *FAST)
    assert f"--out {tmp_path}: the folder is not empty" in error and "--overwrite" in error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_refuses_a_file_as_folder(digits: Path, tmp_path: Path) -> None:
    shutil.copy(digits / "0.png", tmp_path / "out")
    error = refuse("counterfactual.py", digits, "--do", "digit=3", "--out", tmp_path / "out", "--overwrite", *FAST)
    assert f"--out {tmp_path / 'out'}: a file of that name exists" in error


def test_refuses_the_folder_of_answers_as_file_of_noise(digits: Path, tmp_path: Path) -> None:
    """Though neither is there yet."""
    asked = ("--do", "slant=0", "--out", tmp_path / "out", "--save-noise", tmp_path / "x" / ".." / "out")
    assert "out: is the folder of the answers; name a file" in refuse("counterfactual.py", digits, *asked, *FAST)
    assert not (tmp_path / "out").exists()


def test_attributes_beyond_reason_give_finite_numbers_or_are_refused(tmp_path: Path) -> None:
    """Never a row of NaN and a picture of nothing, without a word."""
    folder = copy_digits(tmp_path / "images", ["0.png"])
    with open(folder / "attributes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    write_table(folder, [rows[0] | {"thickness": "1e30"}])
    done = call_script("counterfactual.py", folder, "--do", "slant=0", "--out", tmp_path / "out", *FAST)
    if done.returncode:
        assert "thickness" in the_error(done.stderr)
    else:
        with open(tmp_path / "out" / "counterfactuals.csv", newline="") as file:
            row = next(csv.DictReader(file))
        assert all(isfinite(float(value)) for value in list(row.values())[2:])
