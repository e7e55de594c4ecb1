"""The command that scores a model of digits by the definitions of the second benchmark."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import dscm
from dscm import assets
from dscm.checkpoint import restore_oracle
from dscm.cli import second_benchmark
from dscm.cli.second_benchmark import check
from dscm.data.scaling import to_levels
from dscm.errors import InputError
from dscm.graphs import get_graph
from dscm.oracle import observe

CPU, GRAPH = torch.device("cpu"), get_graph("morphomnist")


def test_scores_of_a_bundled_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Every score of every variable that is theirs, of 8 digits; the slant is none of them."""
    obs = assets.read_observation(10)["image"]
    digits = {"image": to_levels(obs)} | observe(obs, GRAPH, restore_oracle(assets.find("oracle", GRAPH), CPU).model)
    fit = second_benchmark.fit_latents
    monkeypatch.setattr(second_benchmark, "fit_latents", lambda images, seed, steps: fit(images, seed, 2))
    monkeypatch.setattr(second_benchmark, "load_embeddings", lambda *_: ({}, {"inception": "no weights"}))
    monkeypatch.setattr(second_benchmark, "get_data_set", lambda *_: SimpleNamespace(load=lambda *_: digits))
    words = "--checkpoint morphomnist-spatial --n 8 --steps 1 --guidance 1.5 --threads 1 --device cpu"
    monkeypatch.setattr(sys, "argv", ["second_benchmark.py", *words.split()])
    second_benchmark.main()
    out, err = capsys.readouterr()
    names = [line.split("|")[1].strip() for line in out.splitlines()[2:]]
    variables = ("thickness", "intensity", "digit")
    assert "composition 1" in names and "composition 10" in names and "minimality" in names and "fid" not in names
    assert {f"effectiveness {do} {name}" for do in variables for name in variables} <= {*names}
    assert {f"minimality {do}" for do in variables} <= {*names} and "slant" not in out and "nan" not in out
    assert err == "the Fréchet distance is left out: no weights\n"


def test_other_images_and_guidance_by_the_intervention_are_refused() -> None:
    with pytest.raises(InputError, match="celebahq: the benchmark is of grey digits"):
        check(dscm.load("celebahq"))
    model = dscm.load("morphomnist")
    check(model.using(guidance="thickness=3,others=1"))
    with pytest.raises(InputError, match="guidance do=3,others=1: composition sets nothing"):
        check(model.using(guidance="do=3"))


def test_a_checkpoint_that_is_none_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["second_benchmark.py", "--checkpoint", str(tmp_path / "none.pt")])
    with pytest.raises(SystemExit) as stop:
        second_benchmark.main()
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
