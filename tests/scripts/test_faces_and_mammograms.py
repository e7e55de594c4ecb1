"""Every part of the method on drawn faces and mammograms, by the same scripts as digits, a few steps of each."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from dscm import assets, checkpoint
from dscm.data.phantoms.layouts import Recipe, write_set
from tests.support.celeba import make_set
from tests.support.scripts import MACHINE, call_script, refuse

ASKED = {"celebahq": "Smiling", "embed": "triangle marker"}
SIZE = {"celebahq": 64, "embed": 192}
Call = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module", params=ASKED)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a set and the folder of 40 drawn images."""
    folder = tmp_path_factory.mktemp(request.param)
    write_set(folder, Recipe(request.param, 40, 3))
    return request.param, folder


def test_train_and_evaluate(data: tuple[str, Path], tmp_path: Path) -> None:
    """Attributes, oracle and image are trained, and evaluate.py measures F1, and truth under joint interventions."""
    name, folder = data
    where = ("--data-dir", folder, "--cache-dir", tmp_path / "cache", *MACHINE)
    for part, steps in (("attributes", 5), ("oracle", 2), ("image", 2)):
        drawing = ("--set", "sample_every=2") if part == "image" else ()
        brief = ("--steps", steps, "--batch", 4, "--out", tmp_path / part, *drawing)
        done = call_script("train.py", "--data", name, "--part", part, *brief, *where)
        assert done.returncode == 0, done.stderr
        if part == "attributes" and name == "embed":
            assert done.stdout == "embed: every attribute is a root or has a known equation; there is nothing to fit\n"
            assert not (tmp_path / part).exists()
        if part == "oracle":
            assert f"test F1 {ASKED[name]}: " in done.stdout
    assert (tmp_path / "image" / "samples" / "000002.png").exists()
    model = checkpoint.restore_image(tmp_path / "image" / "checkpoint.pt", torch.device("cpu")).model
    assert model.shape == (3 if name == "celebahq" else 1, SIZE[name], SIZE[name])

    options = ["--checkpoint", tmp_path / "image" / "checkpoint.pt", "--oracle", tmp_path / "oracle" / "checkpoint.pt"]
    if name == "celebahq":
        options += ["--attributes", tmp_path / "attributes" / "checkpoint.pt"]
    options += ["--n", 3, "--steps", 2, "--guidance", 1, "--out", tmp_path / "soundness", "--set", "oracle_accuracy=0"]
    done = call_script("evaluate.py", *options, *where)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "soundness" / "metrics.json").read_text())
    scores = record["effectiveness"][ASKED[name]][ASKED[name]]
    assert (scores["f1"] is None or 0 <= scores["f1"] <= 1) and 0 <= scores["accuracy"] <= 1
    truth = record["truth"][ASKED[name]]
    assert truth["factual_l1"] > 0 and ("inside_l1" in truth) == (name == "embed")
    assert scores["removed"] is None or 0 <= scores["removed"] <= 1
    assert f"| do({ASKED[name]}) |" in done.stdout and "nan" not in done.stdout

    images = folder / ("images" if name == "embed" else "CelebAMask-HQ/CelebA-HQ-img")
    (tmp_path / "some" / "sub").mkdir(parents=True)
    shutil.copy(sorted(images.iterdir())[0], tmp_path / "some" / "sub")
    asked = ("--do", f"{ASKED[name]}=0", "--steps", 2, "--guidance", 1, "--out", tmp_path / "answers", "--paste")
    done = call_script("counterfactual.py", tmp_path / "some", *options[:-10], *asked, *MACHINE)
    assert done.returncode == 0, done.stderr
    assert "factual attributes: predicted by the oracle: " in done.stdout
    (answer,) = (tmp_path / "answers" / "sub").iterdir()
    assert answer.name.endswith(f"__{ASKED[name]}=0.png")
    with Image.open(answer) as image:
        assert image.size == (SIZE[name], SIZE[name])
    (source,) = (tmp_path / "some" / "sub").iterdir()
    pasted = tmp_path / "answers" / "pasted" / f"{ASKED[name]}=0" / "sub" / source.with_suffix(".png").name
    with Image.open(pasted) as after, Image.open(source) as before:
        assert after.size == before.size and after.mode == before.mode


def test_portraits_of_any_size_are_cropped_as_the_training_was(tmp_path: Path) -> None:
    """A model of CelebA says what framing it expects; another fit takes the whole of a portrait."""
    folder = make_set(tmp_path / "set")
    where = ("--data-dir", folder, "--cache-dir", tmp_path / "cache", *MACHINE)
    for part, more in (("image", ("--mechanism", "spatial", "--set", "balance=Eyeglasses")), ("oracle", ())):
        brief = ("--steps", 1, "--batch", 2, "--size", 16, "--out", tmp_path / part)
        done = call_script("train.py", "--data", "celeba:Smiling,Eyeglasses", "--part", part, *brief, *more, *where)
        assert done.returncode == 0, done.stderr
    (tmp_path / "portraits").mkdir()
    for i, size in enumerate(((178, 218), (300, 500), (90, 90))):
        Image.new("RGB", size, (200, 150, 120)).save(tmp_path / "portraits" / f"{i}.jpg")
    models = ("--checkpoint", tmp_path / "image" / "checkpoint.pt", "--oracle", tmp_path / "oracle" / "checkpoint.pt")
    asked = ("--do", "Eyeglasses=1", "--steps", 1, "--guidance", 1, "--out", tmp_path / "out", *MACHINE)
    done = call_script("counterfactual.py", tmp_path / "portraits", *models, *asked)
    assert done.returncode == 0, done.stderr
    (note,) = (line for line in done.stderr.splitlines() if line.startswith("note: faces are to be upright and framed"))
    assert "rows 30 to 208 of 218" in note and "--set fit=stretch or pad takes all of it" in note
    assert {path.name for path in (tmp_path / "out").glob("*__Eyeglasses=1.png")} == {
        f"{i}__Eyeglasses=1.png" for i in range(3)
    }
    assert checkpoint.read(tmp_path / "image" / "checkpoint.pt", "image")["settings"]["fit"] == "crop"


MOUTH = "celebahq:Smiling,Mouth_Slightly_Open"  # of which no part is bundled


def test_evaluate_needs_the_learned_mechanisms(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_set(folder, Recipe("celebahq", 20, 3))
    where = ("--data-dir", folder, "--cache-dir", tmp_path / "cache", *MACHINE)
    for part in ("image", "oracle"):
        brief = ("--steps", 1, "--batch", 2, "--size", 16, "--out", tmp_path / part)
        call_script("train.py", "--data", MOUTH, "--mechanism", "spatial", "--part", part, *brief, *where)
    image = ("--checkpoint", tmp_path / "image" / "checkpoint.pt")
    digits = ("--oracle", assets.find("oracle"))
    error = refuse("evaluate.py", *image, *digits, "--n", 2, "--steps", 2, "--out", tmp_path / "out", *where)
    assert "morphomnist-oracle.pt: predicts digit; " in error and "needs Smiling, Mouth_Slightly_Open" in error
    models = (*image, "--oracle", tmp_path / "oracle" / "checkpoint.pt")
    error = refuse("evaluate.py", *models, "--n", 2, "--steps", 2, "--out", tmp_path / "out", *where)
    assert "Mouth_Slightly_Open is learned; train it, and give its checkpoint with --attributes" in error
    wrong = ("--attributes", tmp_path / "oracle" / "checkpoint.pt")
    error = refuse("evaluate.py", *models, *wrong, "--n", 2, "--steps", 2, "--out", tmp_path / "out", *where)
    assert "holds a model of kind 'oracle'; 'attributes' is needed" in error


def test_other_attributes_of_faces_and_an_oracle_that_is_often_wrong(tmp_path: Path) -> None:
    """Any of the forty may be modelled; evaluate.py refuses a weak oracle unless it is told to take it."""
    folder = tmp_path / "set"
    folder.mkdir()
    write_set(folder, Recipe("celebahq", 20, 3))
    where = ("--data-dir", folder, "--cache-dir", tmp_path / "cache", *MACHINE)
    for part in ("image", "oracle"):
        brief = ("--steps", 1, "--batch", 2, "--size", 16, "--out", tmp_path / part)
        done = call_script("train.py", "--data", "celebahq:Male,Young", "--part", part, *brief, *where)
        assert done.returncode == 0, done.stderr
    models = ("--checkpoint", tmp_path / "image" / "checkpoint.pt", "--oracle", tmp_path / "oracle" / "checkpoint.pt")
    asked = (*models, "--n", 2, "--steps", 2, "--guidance", 1, "--out", tmp_path / "out")
    error = refuse("evaluate.py", *asked, "--set", "oracle_accuracy=1", *where)
    assert "checkpoint.pt: its accuracy of " in error and error.endswith("--set oracle_accuracy asks for 1")
    done = call_script("evaluate.py", *asked, "--set", "oracle_accuracy=0", *where)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(record["effectiveness"]) == ["Male", "Young"] and list(record["truth"]) == ["Male"]
    error = refuse("counterfactual.py", "--data", "embed", *models, "--do", "Male=1", "--out", tmp_path / "no")
    assert error.endswith("--data embed: the checkpoint is of celebahq:Male,Young")
