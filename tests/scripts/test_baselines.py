"""The baselines through the three scripts: trained a few steps, queried, and measured beside a diffusion model."""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dscm import checkpoint
from tests.support.scripts import FAST, MACHINE, TrainingRun, call_script, refuse, succeed

Call = Callable[..., subprocess.CompletedProcess]
BASELINES = ("vae", "hvae", "hvae-mediator", "vci", "diffscm")


@pytest.fixture(scope="module")
def trained(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingRun]:
    """One run of each."""
    runs = {}
    for name in BASELINES:
        graph = "morphomnist-digit" if name == "diffscm" else "morphomnist"
        settings = ("--data", graph, "--mechanism", name, "--patch", 4, "--steps", 4, "--set", "sample_every=4")
        settings += ("--set", "likelihood=gaussian") if name == "hvae" else ()
        runs[name] = train(tmp_path_factory.mktemp(name), *settings)
    return runs


def test_train_reports_the_terms(trained: dict[str, TrainingRun]) -> None:
    for name, run in trained.items():
        terms = dict(line.split(": ") for line in run.stdout.strip().splitlines())
        assert ({"diffscm": "denoising", "vci": "consistency"}.get(name, "kl")) in terms
        assert (run.folder / "samples" / "000004.png").exists()


@pytest.mark.parametrize("name", BASELINES)
def test_counterfactual(trained: dict[str, TrainingRun], digits: Path, tmp_path: Path, name: str) -> None:
    how = FAST if name == "diffscm" else (*MACHINE, "--set", "sample_code=on")
    asked = ("--checkpoint", trained[name].checkpoint, "--do", "digit=3", "--save-noise", tmp_path / "noise.zip")
    succeed(call_script("counterfactual.py", digits, *asked, "--out", tmp_path / "out", *how))
    again = ("--checkpoint", trained[name].checkpoint, "--do", "digit=3", "--load-noise", tmp_path / "noise.zip")
    succeed(call_script("counterfactual.py", digits, *again, "--out", tmp_path / "again", *how))
    for path in (tmp_path / "out").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    with open(tmp_path / "out" / "counterfactuals.csv", newline="") as file:
        assert {row["counterfactual_digit"] for row in csv.DictReader(file)} == {"3"}


def test_evaluate_side_by_side(
    trained: dict[str, TrainingRun], spatial_run: TrainingRun, tmp_path: Path, data_arguments: tuple
) -> None:
    """Autoencoders have one row each, exact in composition unless their pixel noise is dropped."""
    paths = [trained[name].checkpoint for name in ("vae", "hvae", "vci")]
    fixed = ("--n", 3, "--steps", 1, "--out", tmp_path / "out", *data_arguments, *MACHINE)
    succeed(call_script("evaluate.py", "--checkpoint", *paths, spatial_run.checkpoint, "--guidance", 1, *fixed))
    succeed(call_script("evaluate.py", "--checkpoint", *paths[:2], "--set", "pixel_noise=off", "--figures", *fixed))
    mediator = ("--checkpoint", trained["hvae-mediator"].checkpoint)
    succeed(call_script("evaluate.py", *mediator, "--set", "residuals=on", *fixed))
    done = succeed(call_script("evaluate.py", *mediator, "--set", "mix=0.9", *fixed))
    error = refuse("evaluate.py", "--checkpoint", *paths, "--guidance", 2, *fixed)
    assert "--guidance: not a setting of hvae, vae, vci; known: " in error
    records = json.loads((tmp_path / "out" / "metrics.json").read_text())
    composition = {record["abduction"]: next(iter(record["composition"].values()))["l1"][0] for record in records}
    plain = ["vae", "hvae", "vci", "spatial"]
    assert [name for name in composition if name in plain] == plain
    assert composition["vae"] <= 1e-5 and composition["hvae"] <= 1e-5
    assert composition["vci"] > 0.01
    assert composition["vae without pixel noise"] > 0.01 and composition["hvae without pixel noise"] > 0.01
    assert composition["hvae-mediator residual latents"] <= 1e-5 and "hvae-mediator mix=0.9" in composition
    assert "| vae |" in done.stdout and "| hvae without pixel noise |" in done.stdout
    parameters = sum(p.numel() for p in checkpoint.restore_image(paths[0], torch.device("cpu")).model.parameters())
    assert records[0]["parameters"] == parameters and 0 < records[0]["training_minutes"] < 5


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vae", ("--guidance", 2), "--guidance: not a setting of vae; known: --set sample_code, --set published, "),
        ("hvae", ("--abduction", "dynamic"), "--abduction: not a setting of hvae; known: --set sample_code"),
        ("vci", ("--steps", 5), "--steps: not a setting of vci; known: --set sample_code"),
        (
            "diffscm",
            (
                "--set",
                "sample_code=on",
            ),
            "--set sample_code: not a setting of diffscm; known: --steps",
        ),
        (
            "vci",
            (
                "--set",
                "pixel_noise=off",
            ),
            "--set pixel_noise: not a setting of vci",
        ),
        (
            "diffscm",
            (
                "--set",
                "pixel_noise=off",
            ),
            "--set pixel_noise: not a setting of diffscm",
        ),
        ("hvae", ("--set", "mix=0.5"), "--set mix: not a setting of hvae; known: "),
        ("hvae", ("--set", "classifier_scale=3"), "--set classifier_scale: not a setting of hvae; known: "),
    ],
)
def test_settings_of_another_mechanism(
    trained: dict[str, TrainingRun], digits: Path, tmp_path: Path, name: str, arguments: tuple, message: str
) -> None:
    asked = (
        "--checkpoint",
        trained[name].checkpoint,
        "--do",
        "digit=3",
        "--out",
        tmp_path / "out",
        *arguments,
        *MACHINE,
    )
    assert message in refuse("counterfactual.py", digits, *asked)


def test_diffscm_needs_one_class(tmp_path: Path, data_arguments: tuple) -> None:
    asked = ("--mechanism", "diffscm", "--steps", 1, "--batch", 4, "--out", tmp_path / "run", *data_arguments, *MACHINE)
    error = refuse("train.py", *asked)
    assert "diffscm guides one class; the image's parents are thickness, intensity, digit, slant" in error


def test_training_refuses_settings_of_another_mechanism(tmp_path: Path, data_arguments: tuple) -> None:
    arguments = ("--mechanism", "spatial", "--set", "likelihood=gaussian", "--out", tmp_path / "run")
    error = refuse("train.py", *arguments, *data_arguments, *MACHINE)
    assert "--set likelihood gaussian: not known to spatial; a setting of vae, hvae, hvae-mediator, vci" in error


def test_train_fine_tunes_and_resumes(
    trained: dict[str, TrainingRun], train: Callable[..., TrainingRun], tmp_path: Path, data_arguments: tuple
) -> None:
    """What goes on in two parts is what goes on in one; the result is a plain checkpoint of a VAE."""
    first = trained["vae"]
    fixed = ("--mechanism", "vae", "--fine-tune", first.checkpoint)
    whole = train(tmp_path / "whole", *fixed, "--steps", 4)
    train(tmp_path / "parts", *fixed, "--steps", 2)
    parts = train(tmp_path / "parts", *fixed, "--steps", 4, "--resume")
    models = [checkpoint.restore_image(r.checkpoint, torch.device("cpu")).model for r in (first, whole, parts)]
    before, one, two = ([p.clone() for p in model.parameters()] for model in models)
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert not all(torch.equal(a, b) for a, b in zip(before, one))
    error = refuse("train.py", "--mechanism", "hvae", "--fine-tune", first.checkpoint, "--out", tmp_path / "x",
                   *data_arguments, *MACHINE)  # fmt: skip
    assert "holds vae of morphomnist, 28 px, not hvae of morphomnist, 28 px" in error
    error = refuse("train.py", "--fine-tune", first.checkpoint, "--out", tmp_path / "x", *data_arguments)
    assert "holds vae of morphomnist, not semantic of morphomnist" in error
