"""evaluate.py over several abductions: added to, refused, and without LPIPS."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dscm import checkpoint
from dscm.evaluation import lpips
from tests.support.evaluation import PARENTS, numbers, read_records
from tests.support.scripts import MACHINE, TrainingRun, call_script, refuse, succeed


@pytest.fixture(scope="module")
def trade_off(semantic_run: TrainingRun, data_arguments: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluate one mechanism with every abduction, then with another step size; and draw the figures."""
    out = tmp_path_factory.mktemp("trade-off")
    settings = ("--n", 4, "--steps", 1, "--guidance", 1, 3, "--abduction", "semantic", "dynamic", "residual")
    common = ("--checkpoint", semantic_run.checkpoint, "--out", out, *data_arguments, *MACHINE)
    succeed(call_script("evaluate.py", *common, *settings, "--set", "cta_lr=0.1"))
    succeed(call_script("evaluate.py", *common, *settings, "--set", "cta_lr=0.01", "--figures"))
    return out


def test_every_abduction_has_its_rows(trade_off: Path) -> None:
    """Once without guidance, where there is nothing to align, and with it one for each step size."""
    rows = [(r["abduction"], r["guidance"], r["cta_lr"]) for r in read_records(trade_off)]
    aligned = [("dynamic", 3, 0.01), ("dynamic", 3, 0.1)]
    assert rows == [("semantic", 1, None), ("semantic", 3, None), *aligned, ("residual", 3, None)]
    composition = [record["composition"]["digit"]["l1"][0] for record in read_records(trade_off)]
    assert composition[4] < 1e-3 < composition[1]


def test_every_number_has_its_interval(trade_off: Path) -> None:
    for record in read_records(trade_off):
        for path, value in numbers({k: record[k] for k in ("composition", "reversibility", "effectiveness", "truth")}):
            low, high = record["intervals"], None
            for key in path.strip(".").split("."):
                low = low[int(key)] if isinstance(low, list) else low[key]
            low, high = low
            assert low <= value + 1e-9 and value <= high + 1e-9, path


def test_differences_are_paired(trade_off: Path) -> None:
    """The mean difference of two rows is the difference of their means."""
    lines = (trade_off / "differences.csv").read_text().splitlines()
    first = next(line.split(",") for line in lines if line.startswith("composition/digit/l1,semantic ω=3,semantic ω=1"))
    a, b = read_records(trade_off)[:2]
    composition = [record["composition"]["digit"]["l1"][0] for record in (a, b)]
    assert float(first[3]) == pytest.approx(composition[1] - composition[0], abs=1e-5)
    assert float(first[4]) <= float(first[3]) <= float(first[5])


def test_figures(trade_off: Path) -> None:
    pictures = {path.name for path in trade_off.glob("*.png")}
    assert {f"comparison_{name}.png" for name in PARENTS} <= pictures and "soundness.png" in pictures
    assert sum(name.startswith("panel_") for name in pictures) == 5
    pytest.importorskip("matplotlib", reason="the curves need matplotlib")
    assert {"tradeoff.png", "alignment.png"} <= pictures


def test_adds_rows_and_measures_none_twice(
    trade_off: Path, semantic_run: TrainingRun, data_arguments: tuple, tmp_path: Path
) -> None:
    """As after an interruption: what is there stays as it is."""
    out = tmp_path / "copy"
    shutil.copytree(trade_off, out)
    before = read_records(out)
    (out / "metrics.json").write_text(json.dumps(before[:2]))
    common = ("--checkpoint", semantic_run.checkpoint, "--out", out, *data_arguments, *MACHINE, "--n", 4, "--steps", 1)
    common += ("--set", "solver=ddim")  # as where residual abduction was measured too
    succeed(call_script("evaluate.py", *common, "--guidance", 1, 3, "--abduction", "semantic", "residual"))
    after = read_records(out)
    assert after[:2] == before[:2] and len(after) == 3
    timed = ("seconds_per_image",)
    assert {k: v for k, v in after[2].items() if k not in timed} == {
        k: v for k, v in before[4].items() if k not in timed
    }


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (lambda out: None, ("--n", 5), "was measured with --n 4, not 5"),
        (lambda out: None, ("--seed", 1), "was measured with --seed 0, not 1"),
        (lambda out: None, ("--steps", 2), "was measured with --steps 1, not 2"),
        (lambda out: cut(out / "metrics.json"), (), "metrics.json: damaged"),
        (lambda out: (out / "metrics.json").write_text("[{}]"), (), "metrics.json: damaged"),
        (lambda out: shutil.rmtree(out / "values"), (), ".npz: missing"),
        (lambda out: [cut(path) for path in (out / "values").iterdir()], (), ".npz: damaged"),
    ],
)
def test_refuses_to_go_on_from_something_else(
    trade_off: Path,
    semantic_run: TrainingRun,
    data_arguments: tuple,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    arguments: tuple,
    message: str,
) -> None:
    """And nothing that was computed is lost."""
    out = tmp_path / "copy"
    shutil.copytree(trade_off, out)
    spoil(out)
    before = (out / "metrics.json").read_bytes()
    common = ("--checkpoint", semantic_run.checkpoint, "--out", out, *data_arguments, *MACHINE, "--n", 4, "--steps", 1)
    common += ("--set", "solver=ddim")  # as where residual abduction was measured too
    assert message in refuse("evaluate.py", *common, "--guidance", 3, *arguments)
    assert (out / "metrics.json").read_bytes() == before


def cut(path: Path) -> None:
    """Tear a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_without_alexnet_the_rest_is_computed(
    semantic_run: TrainingRun, data_arguments: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says why LPIPS is null."""
    monkeypatch.setattr("dscm.evaluation.runner.load_lpips", lpips.load_lpips)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: (_ for _ in ()).throw(OSError("no net")))
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: (_ for _ in ()).throw(OSError("no net"))
    )
    settings = ("--n", 4, "--steps", 1, "--guidance", 3)
    out = tmp_path / "out"
    arguments = ("--checkpoint", semantic_run.checkpoint, "--out", out, *settings, *data_arguments, *MACHINE)
    done = call_script("evaluate.py", *arguments)
    assert done.returncode == 0 and "LPIPS is left out" in done.stderr and "no net" in done.stderr
    (record,) = read_records(out)
    assert record["composition"]["digit"]["lpips"] is None and record["composition"]["digit"]["l1"][0] > 0
    assert record["reversibility"]["digit"]["lpips"] is None
    assert record["identity"]["digit"].keys() == {"l1", "lpips", "factual_l1", "factual_lpips"}


def test_a_mechanism_without_null_token_is_not_guided(
    train: Callable[..., TrainingRun],
    spatial_run: TrainingRun,
    digits: Path,
    data_arguments: tuple,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its one row, at ω = 1, stands beside those of others, and a line says so; where none is asked, it is refused.

    Its training fitted levels, the other's had too few images for that: each row follows its own path.
    """
    monkeypatch.setattr("dscm.training.levels.IMAGES", 8)  # as many as there are for validation
    monkeypatch.setattr("dscm.diffusion.levels.CANDIDATES", 4)
    brief = ("--steps", 1, "--set", "p_null=0", "--set", "levels=2")
    run = train(tmp_path / "run", "--mechanism", "spatial", "--patch", 4, *brief)
    fitted = (
        f"σ = {', '.join(f'{level:g}' for level in checkpoint.read(run.checkpoint, 'image')['sampling']['levels'])}"
    )
    assert fitted.startswith("σ = 80, ") and fitted.endswith(", 0.02")
    brief = ("--n", 2, "--steps", 1, "--out", tmp_path / "out", *data_arguments, *MACHINE)
    assert "trained without a null token" in refuse(
        "evaluate.py", "--checkpoint", run.checkpoint, *brief, "--guidance", 3
    )
    both = ("--checkpoint", run.checkpoint, spatial_run.checkpoint)
    done = call_script("evaluate.py", *both, *brief, "--guidance", 1, 3)
    assert f"{run.checkpoint}: trained without a null token (p_∅ = 0): measured at ω = 1 alone" in done.stderr
    records = read_records(tmp_path / "out")
    assert [(r["p_null"], r["guidance"]) for r in records] == [(0, 1), (0.1, 1), (0.1, 3)]
    assert [r["grid"] for r in records] == [fitted, "log-sigma", "log-sigma"]
    assert [r["guidance_interval"] for r in records] == [None, None, [1, 1000]]
    assert f"- path 1: 1 steps of trapezoid, implicit steps of 1 evaluation(s), at {fitted}\n" in done.stdout
    query = ("--checkpoint", run.checkpoint, "--do", "digit=3", "--steps", 1, *MACHINE)
    assert "--guidance must be 1" in refuse("counterfactual.py", digits, *query, "--out", tmp_path / "answers")
    succeed(call_script("counterfactual.py", digits, *query, "--guidance", 1, "--out", tmp_path / "answers"))


def test_the_published_procedure(
    semantic_run: TrainingRun,
    data_arguments: tuple,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bundle that its records and tables name, and that goes with nothing that contradicts it; on few timesteps."""
    grid = torch.tensor([1000.0, 300.0, 1.0, 0.0], dtype=torch.float64)
    monkeypatch.setattr("dscm.diffusion.sampling.make_grid", lambda *_: grid)
    common = ("--checkpoint", semantic_run.checkpoint, *MACHINE)
    measured = (*common, *data_arguments, "--n", 4, "--guidance", 3, "--out", tmp_path / "out")
    refused = refuse("evaluate.py", *measured, "--published", "--steps", 5)
    assert "--steps 5: contradicts --published, which stands for 1000" in refused
    succeed(call_script("evaluate.py", *measured, "--published"))
    (record,) = read_records(tmp_path / "out")
    assert record["published"] and record["steps"] == 1000 and record["guidance_interval"] == [0, 1000]
    assert "the procedure of the paper's code" in (tmp_path / "out" / "metrics.md").read_text()
    assert "was measured with --published True, not False" in refuse("evaluate.py", *measured)
    query = (digits, *common, "--do", "slant=0.9", "--set", "published=on", "--out", tmp_path / "answers")
    assert "--steps 5: contradicts --set published" in refuse("counterfactual.py", *query, "--steps", 5)
    succeed(call_script("counterfactual.py", *query))
    with (tmp_path / "answers" / "counterfactuals.csv").open() as file:
        assert {float(row["counterfactual_slant"]) for row in csv.DictReader(file)} == {0.5}
