"""train.py as its user runs it, a few steps at a time on a few digits."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dscm import checkpoint
from tests.support.scripts import MACHINE, TrainingRun, call_script, refuse, start_script

CPU = torch.device("cpu")


def load(run: TrainingRun) -> dict[str, Any]:
    """Read a run's checkpoint without executing anything."""
    return torch.load(run.checkpoint, weights_only=True)


def read_log(run: TrainingRun) -> list[dict[str, Any]]:
    """Read a run's log without the clock."""
    records = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Check that two nested structures are the same, tensors byte for byte."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert a.numpy().tobytes() == b.numpy().tobytes(), where
    else:
        assert a == b, where


def assert_same_run(a: TrainingRun, b: TrainingRun) -> None:
    """Check that two runs ended in the same state and logged the same."""
    mine, other = load(a), load(b)
    for entry in ("step", "raw", "model", "optimiser"):
        assert_same(mine[entry], other[entry], entry)
    assert read_log(a) == read_log(b)


@pytest.mark.parametrize(
    ("name", "kind", "graph", "steps"),
    [
        ("spatial_run", "image", "morphomnist", 32),
        ("semantic_run", "image", "morphomnist", 6),
        ("oracle_run", "oracle", "morphomnist", 6),
        ("colour_run", "image", "colour-morphomnist", 6),
    ],
)
def test_checkpoint_rebuilds_the_model(
    name: str, kind: str, graph: str, steps: int, request: pytest.FixtureRequest
) -> None:
    """It is plain data that says what it is, and the averaged weights differ from the raw ones."""
    run = request.getfixturevalue(name)
    content = load(run)
    assert content["format"] == checkpoint.FORMAT and content["program"].startswith("dscm ")
    assert (content["kind"], content["graph"], content["step"]) == (kind, graph, steps)
    assert content["settings"]["seed"] == 0 and content["settings"]["batch"] == 8
    restore = {"image": checkpoint.restore_image, "oracle": checkpoint.restore_oracle}[kind]
    model = restore(run.checkpoint, CPU).model
    assert_same(dict(model.state_dict()), dict(content["model"]))
    assert not model.training
    assert any(not torch.equal(content["raw"][key], value) for key, value in content["model"].items())
    support = restore(run.checkpoint, CPU).support
    assert (support.n == 40 and len(support.variables) > 2) if kind == "image" else support is None
    if kind == "image":
        assert model.shape[0] == (3 if graph == "colour-morphomnist" else 1)
        assert model.code_dim == (0 if name == "spatial_run" else 8)
        assert (model.scaling.mean != 0).any()


def test_log_holds_averages_and_final_figures(semantic_run: TrainingRun) -> None:
    first, second, last = read_log(semantic_run)
    assert (first["step"], second["step"], last["step"]) == (3, 6, 6)
    for record in (first, second):
        assert {"loss", "kl", "conditional"} <= record.keys()
        assert 0 < record["kl"] < record["loss"] < 1e5
    assert all(f"{name}: {value:.4g}" in semantic_run.stdout.splitlines() for name, value in last["final"].items())
    assert last["final"]["KL (nats)"] > 0


def test_log_reaches_the_last_step(oracle_run: TrainingRun) -> None:
    """Also when it is not a multiple of --save-every."""
    assert [record["step"] for record in read_log(oracle_run) if "final" not in record][-1] == 6


def test_semantic_prints_kl_and_probes(semantic_run: TrainingRun) -> None:
    names = [line.rpartition(": ")[0] for line in semantic_run.stdout.splitlines()]
    measures = ("thickness R²", "intensity R²", "digit accuracy", "slant R²")
    probes = [f"{reader} probe {measure}" for reader in ("linear", "perceptron") for measure in measures]
    scores = ["KL (nats)", *probes, "chance digit accuracy"]
    assert names == [*scores, *(f"validation {name}" for name in scores)]


def test_oracle_prints_its_accuracy(oracle_run: TrainingRun) -> None:
    """On the images for testing, and on those for validation."""
    score = r"accuracy digit: (0|1|0\.\d+)\n"
    assert re.fullmatch(f"test {score}validation {score}", oracle_run.stdout)


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [("morphomnist", 32, "--size 32: digits are 28"), ("celebahq", 30, "--size 30: must be a multiple of 4")],
)
def test_refused_sizes(data: str, size: int, message: str, tmp_path: Path) -> None:
    """Digits have one size; other images must divide into the model's patches. No image is looked at before."""
    where = ("--data-dir", tmp_path / "set", "--cache-dir", tmp_path / "cache", *MACHINE)
    assert message in refuse("train.py", "--data", data, "--size", size, "--out", tmp_path / "run", *where)
    assert not (tmp_path / "run").exists()


def test_samples_are_a_grid_for_the_first_test_images(colour_run: TrainingRun) -> None:
    """Eight a row, two pixels apart; the tiny test split has 24."""
    (path,) = (colour_run.folder / "samples").iterdir()
    assert path.name == "000006.png"
    with Image.open(path) as image:
        assert image.size == (8 * 30 + 2, 3 * 30 + 2)
        assert np.asarray(image).std() > 1


def test_same_seed_same_weights(
    oracle_run: TrainingRun, train: Callable[..., TrainingRun], data_arguments: tuple, tmp_path: Path
) -> None:
    """Byte for byte; with --overwrite into a folder that has content, whose other files stay."""
    (tmp_path / "notes.txt").write_text("mine")
    again = train(tmp_path, *oracle_run.settings, "--overwrite")
    assert_same_run(oracle_run, again)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    settings = ("--out", tmp_path / "other", "--batch", 8, *oracle_run.settings, *data_arguments, *MACHINE)
    assert call_script("train.py", *settings, "--seed", 1).returncode == 0
    other = TrainingRun(tmp_path / "other", settings, "")
    assert not torch.equal(load(other)["model"]["head.weight"], load(again)["model"]["head.weight"])


def test_resume_goes_on_bit_for_bit(
    semantic_run: TrainingRun, train: Callable[..., TrainingRun], tmp_path: Path
) -> None:
    """Three steps and three more are six steps; dropout, codes and dropped conditions are drawn alike."""
    half = train(tmp_path, *semantic_run.settings, "--steps", 3)
    assert load(half)["step"] == 3
    whole = train(tmp_path, *semantic_run.settings, "--resume")
    assert_same_run(semantic_run, whole)


def test_killed_run_resumes_bit_for_bit(
    spatial_run: TrainingRun, train: Callable[..., TrainingRun], data_arguments: tuple, tmp_path: Path
) -> None:
    arguments = ("--out", tmp_path, "--batch", 8, *spatial_run.settings, *data_arguments, *MACHINE)
    process = start_script("train.py", *arguments)
    try:
        while not (tmp_path / "checkpoint.pt").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert load(TrainingRun(tmp_path, (), ""))["step"] < 32
    assert_same_run(spatial_run, train(tmp_path, *spatial_run.settings, "--resume"))


def test_diverging_run_keeps_its_last_good_checkpoint(data_arguments: tuple, tmp_path: Path) -> None:
    settings = (
        "--mechanism",
        "spatial",
        "--batch",
        8,
        "--steps",
        6,
        "--set",
        "save_every=1",
        "--set",
        "learning_rate=1e30",
    )
    done = call_script("train.py", "--out", tmp_path, *settings, *data_arguments, *MACHINE)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(r"error: step 2: the loss is (inf|nan); lower --set learning_rate;", done.stderr)
    restored = checkpoint.restore_image(tmp_path / "checkpoint.pt", CPU)
    assert restored.step == 1
    assert all(parameter.isfinite().all() for parameter in restored.model.parameters())
    errors = [line for line in re.split(r"[\r\n]+", done.stderr) if "error: " in line]
    assert len(errors) == 1 and errors[0].startswith("error: "), "the error has a line of its own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "mnist"), "'mnist'; known: celeba, celebahq, colour-morphomnist, embed, morphomnist"),
        (("--preset", "huge"), "'tiny', 'small', 'paper'"),
        (("--steps", 0), "--steps 0: must be an integer, at least 1"),
        (("--minutes", 0), "--minutes 0: must be a number, more than 0"),
        (("--set", "p_null=1"), "--set p_null 1: must be a number, at least 0, at most 0.99"),
        (("--set", "learning_rate=nan"), "--set learning_rate nan: must be a number, more than 0"),
        (("--set", "beta=-1"), "--set beta -1: must be a number, at least 0"),
        (("--device", "abacus"), "--device abacus: not available here; available: cpu"),
        (("--resume",), "no such checkpoint"),
    ],
)
def test_refused_arguments(data_arguments: tuple, tmp_path: Path, arguments: tuple, message: str) -> None:
    assert message in refuse("train.py", "--out", tmp_path / "out", *data_arguments, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_refuses_an_absent_gpu(data_arguments: tuple, tmp_path: Path) -> None:
    error = refuse("train.py", "--out", tmp_path / "out", *data_arguments, "--device", "cuda")
    assert "--device cuda: not available here; available: cpu" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (("--seed", 1), "--seed 0, not 1"),
        (("--set", "p_null=0.2"), "--set p_null 0.1, not 0.2"),
        (("--batch", 4), "--batch 8, not 4"),
        (("--set", "learning_rate=0.1"), "--set learning_rate None, not 0.1"),
        (("--mechanism", "spatial"), "--mechanism semantic, not spatial"),
        (("--data", "colour-morphomnist"), "--data morphomnist, not colour-morphomnist"),
    ],
)
def test_resume_refuses_other_settings(
    semantic_run: TrainingRun, data_arguments: tuple, arguments: tuple, flag: str
) -> None:
    """The flag is named, and the checkpoint stays."""
    before = semantic_run.checkpoint.read_bytes()
    settings = ("--out", semantic_run.folder, "--batch", 8, *semantic_run.settings, *data_arguments, *MACHINE)
    assert flag in refuse("train.py", *settings, "--resume", *arguments)
    assert semantic_run.checkpoint.read_bytes() == before


def test_resume_refuses_another_part(oracle_run: TrainingRun, data_arguments: tuple) -> None:
    settings = ("--out", oracle_run.folder, "--batch", 8, *oracle_run.settings, *data_arguments, *MACHINE)
    assert "kind 'oracle'; 'image' is needed" in refuse("train.py", *settings, "--resume", "--part", "image")


def test_resume_refuses_exported_weights(semantic_run: TrainingRun, data_arguments: tuple, tmp_path: Path) -> None:
    """A checkpoint stripped of the optimiser, as the bundled ones are, cannot be resumed."""
    checkpoint.export(semantic_run.checkpoint, "image", tmp_path / "checkpoint.pt")
    settings = ("--out", tmp_path, "--batch", 8, *semantic_run.settings, *data_arguments, *MACHINE)
    assert str(tmp_path / "checkpoint.pt") in refuse("train.py", *settings, "--resume")


def test_resume_refuses_a_truncated_checkpoint(
    semantic_run: TrainingRun, data_arguments: tuple, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(semantic_run.checkpoint.read_bytes()[:50_000])
    settings = ("--out", tmp_path, "--batch", 8, *semantic_run.settings, *data_arguments, *MACHINE)
    assert "truncated" in refuse("train.py", *settings, "--resume")


def test_refuses_a_folder_with_content(semantic_run: TrainingRun, data_arguments: tuple) -> None:
    before = semantic_run.checkpoint.read_bytes()
    error = refuse("train.py", "--out", semantic_run.folder, *data_arguments, *MACHINE)
    assert f"--out {semantic_run.folder}: the folder is not empty" in error and "--overwrite" in error
    assert semantic_run.checkpoint.read_bytes() == before


def test_refuses_missing_data(tmp_path: Path) -> None:
    error = refuse("train.py", "--out", tmp_path / "out", "--data-dir", tmp_path / "nowhere", "--cache-dir", tmp_path)
    assert f"{tmp_path / 'nowhere'}: no such folder" in error and "--data-dir" in error


def test_refused_data_leaves_the_old_run(semantic_run: TrainingRun, tmp_path: Path) -> None:
    """A mistyped --data-dir beside --overwrite does not cost the checkpoint that was there."""
    shutil.copy(semantic_run.checkpoint, tmp_path)
    data = ("--data-dir", tmp_path / "nowhere", "--cache-dir", tmp_path)
    refuse("train.py", "--out", tmp_path, "--overwrite", *data, *MACHINE)
    assert (tmp_path / "checkpoint.pt").exists()
