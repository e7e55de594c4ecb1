"""evaluate.py as its user runs it, with two barely trained mechanisms on a few digits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from dscm import assets, checkpoint
from dscm.data.morphomnist import dataset as morphomnist
from dscm.data.scaling import l1, to_signed
from dscm.diffusion.sampling import Sampling
from dscm.graphs import get_graph
from tests.support.evaluation import PARENTS, SETTINGS, numbers, read_records
from tests.support.scripts import MACHINE, Done, TrainingRun, call_script, refuse, run_script, succeed

Evaluate = Callable[..., Path]


@pytest.fixture(scope="module")
def evaluate(data_arguments: tuple, spatial_run: TrainingRun, semantic_run: TrainingRun) -> Evaluate:
    """Evaluate both mechanisms into a folder."""

    def evaluate(out: Path, *more: object, run: Callable[..., Done] = call_script) -> Path:
        checkpoints = ("--checkpoint", spatial_run.checkpoint, semantic_run.checkpoint)
        arguments = (*checkpoints, "--out", out, *SETTINGS, *data_arguments, *MACHINE, *more)
        done = succeed(run("evaluate.py", *arguments))
        assert (out / "metrics.md").read_text().strip() == done.stdout.strip()
        return out

    return evaluate


@pytest.fixture(scope="module")
def evaluation(evaluate: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(tmp_path_factory.mktemp("evaluation") / "new" / "out")


def test_a_record_for_each_checkpoint_and_guidance(evaluation: Path) -> None:
    records = read_records(evaluation)
    runs = [(record["mechanism"], record["abduction"], record["guidance"]) for record in records]
    assert runs == [(kind, kind, guidance) for kind in ("spatial", "semantic") for guidance in (1, 3)]
    for record in records:
        assert (record["steps"], record["n"], record["seed"], record["cycles"]) == (2, 5, 0, 2)
        assert record["checkpoint"].endswith(".pt")
        assert record["seconds_per_image"] > 0


def test_checkpoints_of_one_name_can_be_told_apart(evaluation: Path) -> None:
    """Every run's checkpoint is called checkpoint.pt."""
    assert len({record["checkpoint"] for record in read_records(evaluation)}) == 2


def test_record_holds_every_metric(evaluation: Path) -> None:
    """Under do of each parent, errors of each attribute; truth wherever the generator knows it."""
    for record in read_records(evaluation):
        assert list(record["composition"]) == list(record["reversibility"]) == list(record["effectiveness"]) == PARENTS
        assert list(record["oracle"]) == PARENTS and list(record["ceiling"]) == ["thickness", "intensity", "slant"]
        assert list(record["truth"]) == ["thickness", "intensity", "slant"]
        for do in PARENTS:
            for group in ("composition", "reversibility"):
                assert len(record[group][do]["l1"]) == len(record[group][do]["l1_8bit"]) == 2
            for attribute in PARENTS:
                names = {"accuracy"} if attribute == "digit" else {"mae", "mape"}
                names |= {f"changed_{name}" for name in names} | ({"kept"} if attribute == "digit" else set())
                assert record["effectiveness"][do][attribute].keys() == names
        distances = [(path, x) for path, x in numbers(record) if "l1" in path or "accuracy" in path]
        assert all(0 <= x <= 1 for _, x in distances)
        assert all(x > 0 for path, x in distances if path.startswith((".composition", ".truth")))


def test_composition_is_that_of_the_model(evaluation: Path, spatial_run: TrainingRun, data_arguments: tuple) -> None:
    """The same figure follows from the package: the null intervention on the first test digits."""
    graph = get_graph("morphomnist")
    mechanism = checkpoint.restore_image(spatial_run.checkpoint, torch.device("cpu")).model
    mechanism.sampling = Sampling(guidance=3, steps=2)
    _, data_dir, _, cache_dir = data_arguments
    data = morphomnist.load(graph, data_dir, "test", cache_dir)
    obs = {name: value[:5] for name, value in data.items()}
    obs["image"] = to_signed(obs["image"])
    scm = graph.scm(mechanism)
    with torch.no_grad():
        once = scm.counterfactual(obs, {})["image"]
        twice = scm.counterfactual({**obs, "image": once}, {})["image"]
    expected = [l1(image, obs["image"]).mean().item() for image in (once, twice)]
    for found in read_records(evaluation)[1]["composition"].values():
        assert found["l1"] == pytest.approx(expected, abs=1e-5)


def test_factual_truth_does_not_depend_on_the_model(evaluation: Path) -> None:
    """Every mechanism is asked the same questions, so what it has to bridge is the same."""
    for do in ("thickness", "intensity", "slant"):
        for distance in ("factual_l1", "floor_l1"):
            assert len({record["truth"][do][distance] for record in read_records(evaluation)}) == 1


def test_tables_and_sheet(evaluation: Path) -> None:
    files = {"metrics.json", "metrics.md", "differences.csv", "soundness.png", "values"}
    assert {path.name for path in evaluation.iterdir()} == files
    lines = (evaluation / "metrics.md").read_text().splitlines()
    assert "5 test images, seed 0" in lines[0]
    first = next(line for line in lines if line.startswith("| spatial ω=1 |"))
    record = read_records(evaluation)[0]
    low, high = record["intervals"]["composition"]["thickness"]["l1"][0]  # of the first of two cycles
    value = record["composition"]["thickness"]["l1"][0]
    assert f"| {100 * value:.3f} [{100 * low:.3f}, {100 * high:.3f}] |" in first
    with Image.open(evaluation / "soundness.png") as image:
        assert image.width > 5 * 56 and image.height > 2 * 10 * 56  # for each mechanism ten rows of five digits


def test_second_run_gives_the_same_numbers(
    evaluation: Path, evaluate: Evaluate, semantic_run: TrainingRun, tmp_path: Path
) -> None:
    """Of one of the four records, in a process of its own, and a folder whose other content stays."""
    (tmp_path / "notes.txt").write_text("mine")
    evaluate(tmp_path, "--checkpoint", semantic_run.checkpoint, "--guidance", 3, "--overwrite", run=run_script)
    names = ("composition", "reversibility", "effectiveness", "identity", "truth", "intervals")
    first, second = (
        [[record[name] for name in names] for record in read_records(out)] for out in (evaluation, tmp_path)
    )
    assert first[3:] == second
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_batch_size_does_not_change_the_numbers(
    evaluation: Path, semantic_run: TrainingRun, data_arguments: tuple, tmp_path: Path
) -> None:
    """Nor do the other checkpoint and guidance: the semantic one alone at 3, in batches of 3 and 2.

    What is measured on images may differ a little more, for they are rounded to 8 bits first; the relative error
    of slant is left out, since it divides by almost zero.
    """
    settings = (*SETTINGS, "--guidance", 3, "--batch", 3)
    arguments = ("--checkpoint", semantic_run.checkpoint, "--out", tmp_path, *settings, *data_arguments, *MACHINE)
    succeed(call_script("evaluate.py", *arguments))
    (mine,), other = read_records(tmp_path), read_records(evaluation)[-1]
    for entry in ("composition", "reversibility", "truth"):
        assert dict(numbers(mine[entry])) == pytest.approx(dict(numbers(other[entry])), abs=1e-5)
    measured = [
        {path: x for path, x in numbers(record["effectiveness"]) if not path.endswith("slant.mape")}
        for record in (mine, other)
    ]
    assert measured[0] == pytest.approx(measured[1], rel=0.01, abs=0.01)


def test_refuses_checkpoints_of_different_graphs(
    spatial_run: TrainingRun, colour_run: TrainingRun, data_arguments: tuple, tmp_path: Path
) -> None:
    checkpoints = ("--checkpoint", spatial_run.checkpoint, colour_run.checkpoint)
    error = refuse("evaluate.py", *checkpoints, "--out", tmp_path / "out", *SETTINGS, *data_arguments, *MACHINE)
    assert "colour-morphomnist, 28 px; morphomnist, 28 px" in error
    assert not (tmp_path / "out").exists()


def test_evaluates_colour(colour_run: TrainingRun, data_arguments: tuple, tmp_path: Path) -> None:
    """Hue has an error around the circle, and a true counterfactual."""
    settings = ("--n", 4, "--steps", 1, "--guidance", 3)
    arguments = ("--checkpoint", colour_run.checkpoint, "--out", tmp_path, *settings, *data_arguments, *MACHINE)
    succeed(call_script("evaluate.py", *arguments))
    record = read_records(tmp_path)[0]
    assert 0 <= record["effectiveness"]["hue"]["hue"]["mae"] <= 0.5
    assert list(record["truth"]) == ["thickness", "slant", "hue"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--n", 25), "--n 25: the test split has 24 images"),
        (("--n", 1), "--n 1: must be an integer, at least 2"),
        (("--set", "cycles=0"), "--set cycles 0: must be an integer, at least 1"),
        (("--guidance", "pose=3"), "--guidance pose: not a parent of the image; known: thickness, "),
        (
            ("--guidance", "do=3", "--abduction", "dynamic"),
            "to one weight, --guidance must be one number",
        ),
        (
            ("--set", "solver=2m", "--set", "fixed_point=2"),
            "--set solver 2m --set fixed_point 2: 2m takes no",
        ),
        (("--set", "sigma_min=0"), "--set sigma_min 0: needs explicit steps (--set fixed_point 0)"),
        (
            ("--set", "solver=trapezoid", "--abduction", "residual"),
            "follows the steps of ddim alone",
        ),
        (("--guidance", 1, 0), "--guidance 0: must be a number, more than 0"),
        (("--data-dir", "/nowhere"), "/nowhere: no such folder"),
        (("--checkpoint", assets.find("oracle")), "holds a model of kind 'oracle'; 'image' is needed"),
        (("--oracle", "/nowhere.pt"), "/nowhere.pt: no such checkpoint"),
        (("--guidance-interval", 5, 1), "--guidance-interval 5 1: the first must not be above the second"),
        (("--device", "abacus"), "--device abacus: not available here"),
    ],
)
def test_refused_arguments(
    spatial_run: TrainingRun, data_arguments: tuple, tmp_path: Path, arguments: tuple, message: str
) -> None:
    common = ("--checkpoint", spatial_run.checkpoint, "--out", tmp_path / "out", *SETTINGS, *data_arguments, *MACHINE)
    assert message in refuse("evaluate.py", *common, *arguments)


def test_refuses_a_folder_with_content(spatial_run: TrainingRun, data_arguments: tuple, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    common = ("--checkpoint", spatial_run.checkpoint, "--out", tmp_path, *SETTINGS, *data_arguments, *MACHINE)
    assert f"--out {tmp_path}: the folder is not empty" in refuse("evaluate.py", *common)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
