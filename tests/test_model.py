"""The notebook's API: loading, asking in one call or step by step, and errors in Python's words."""

import ast
import doctest
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import dscm
from dscm import assets
from dscm import model as model_module
from dscm.errors import InputError
from dscm.model import Model
from tests.support import shapes
from tests.support.networks import scatter
from tests.support.scripts import ROOT, TrainingRun, copy_digits

KNOWN = {"size": 0.5, "warmth": 0.25, "kind": "cross", "striped": 1}


@pytest.fixture(scope="module")
def model(shapes_run: Path) -> Model:
    """A model of shapes, whose image follows its parents at random."""
    model = dscm.load(shapes_run, guidance=1.0, steps=3)
    scatter(model.mechanism, std=0.05).float()
    return model


@pytest.fixture(scope="module")
def obs(model: Model, shapes_folder: Path) -> dict[str, Tensor]:
    """Two shapes."""
    return model.observe([shapes_folder / "images" / f"0000{i}.png" for i in range(2)])


def test_composition_returns_the_attributes_and_an_intervention_sets_them(model: Model, shapes_folder: Path) -> None:
    obs = model.observe(shapes_folder / "images" / "00000.png", KNOWN)
    assert obs["image"].shape == (1, 3, 32, 32) and obs["image"].dtype == torch.uint8
    noise = model.abduct(obs)
    again = model.predict(noise)
    for name, value in (KNOWN | {"kind": 2}).items():
        assert again[name].item() == pytest.approx(value, abs=1e-5)
    answer = model.predict(noise, {"size": 0.7, "kind": "disk"})
    assert answer["size"].item() == pytest.approx(0.7) and answer["kind"].item() == 0
    assert answer["image"].dtype == torch.uint8 and not torch.equal(answer["image"], again["image"])
    direct = model.effect(obs, noise, {"size": 0.7}, "direct")
    assert direct["warmth"].item() == pytest.approx(0.25, abs=1e-5)
    assert model.sample(3, seed=1, do={"kind": "square"})["kind"].tolist() == [1, 1, 1]


def test_one_call_is_its_steps(model: Model, tmp_path: Path) -> None:
    """With the folder's own table, in batches, under an intervention that depends on the observation."""
    folder = tmp_path / "images"
    shapes.write_set(folder, 6)
    answer = model.counterfactual(folder, {"size": "*0.9", "striped": "flip"}, effect="direct", batch=4, steps=2)
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".png")
    assert answer.names == [path.name for path in paths]
    other = model.using(steps=2)
    obs = other.observe(folder)
    do = {"size": 0.9 * obs["size"], "striped": 1 - obs["striped"]}
    expected = other.effect(obs, other.abduct(obs), do, "direct")
    assert set(answer) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(answer[name].float(), value.float(), rtol=0, atol=1.0 if name == "image" else 1e-5)


def test_soft_interventions_follow_the_parents(model: Model, obs: dict[str, Tensor]) -> None:
    """As functions and as text, with and without an observation, in batches; guided by do where the value changes."""
    noise, size = model.abduct(obs), {"size": 0.7}
    followed = model.predict(noise, size)["warmth"]
    soft = model.predict(noise, size | {"warmth": lambda w: w * 0.9})
    torch.testing.assert_close(soft["warmth"], 0.9 * followed)
    texts = model.predict(noise, size | {"warmth": "soft:*0.9"})
    assert torch.equal(texts["image"], soft["image"]) and not torch.equal(followed, obs["warmth"])
    known = {name: value for name, value in obs.items() if name != "image"}
    answer = model.counterfactual(list(obs["image"]), size | {"warmth": "soft:*0.9"}, attributes=known, batch=1)
    torch.testing.assert_close(answer["warmth"], soft["warmth"])
    assert repr(answer).startswith("<Answer do(size=0.7,warmth=soft:*0.9)")
    flipped = [model.sample(3, do=do)["striped"] for do in ({}, {"striped": "soft:flip"})]
    assert torch.equal(1 - flipped[0], flipped[1])
    guided = model.using(guidance="do=6,others=1", guidance_interval=(0.0, 1000.0))
    still = guided.predict(noise, size | {"warmth": lambda w: w}, obs)["image"]
    assert torch.equal(still, guided.predict(noise, size, obs)["image"])
    assert not torch.equal(still, guided.predict(noise, size | {"warmth": followed}, obs)["image"])


def test_soft_interventions_keep_the_domain(model: Model, obs: dict[str, Tensor]) -> None:
    noise = model.abduct(obs)
    with pytest.raises(InputError, match="size: a soft intervention made .* of .*; must be"):
        model.predict(noise, {"size": lambda s: s + 100})
    with pytest.raises(InputError, match="image 00000: size would be"):
        model.predict(noise, {"size": "soft:+100"})
    with pytest.raises(InputError, match=r"kind: a soft intervention made \(3,\) of \(2,\)"):
        model.predict(noise, {"kind": lambda k: torch.zeros(3)})
    with pytest.raises(InputError, match="kind: a soft intervention made 7 of"):
        model.predict(noise, {"kind": lambda k: 7})


def test_a_table_may_hold_some_attributes(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The rest is as without a table; what is given in Python counts more."""
    folder = tmp_path / "images"
    shapes.write_set(folder, 3)
    (folder / "attributes.csv").unlink()
    seen = model.observe(folder)
    (folder / "attributes.csv").write_text("image,KIND,size\n./00002.png,Cross,\n00000.png,disk,0.4\n")
    with pytest.raises(InputError, match="no row for '00001.png' .* leave them out with skip_missing"):
        model.observe(folder)
    assert len(model.observe(folder, skip_missing=True)["image"]) == 1, "the other has no size"
    answer = model.counterfactual(folder, {"striped": "flip"}, attributes={"size": 0.6}, skip_missing=True)
    assert answer.names == ["00000.png", "00002.png"] and "'00001.png'; left out" in capsys.readouterr().err
    assert answer.obs["kind"].tolist() == [0, 2] and answer.obs["size"].tolist() == pytest.approx([0.6, 0.6])
    for name in ("warmth", "striped", "image"):
        assert torch.equal(answer.obs[name], seen[name][[0, 2]])
    predicted = {"predicted by the oracle": ["warmth", "striped"]}
    assert answer.sources == {"given": ["size"], "from attributes.csv": ["kind"]} | predicted


def test_guidance_by_do_is_the_same_from_the_model_and_the_causal_model(model: Model, obs: dict[str, Tensor]) -> None:
    """It is an argument of the prediction, and nothing that a caller must remember."""
    guided = model.using(guidance="do=6,others=1", guidance_interval=(0.0, 1000.0))
    noise, do = guided.abduct(obs), {"size": 0.7}
    image = guided.predict(noise, do)["image"]
    assert torch.equal(model_module.to_levels(guided.scm.predict(noise, do)["image"]), image)
    assert torch.equal(guided.effect(obs, noise, do, "total")["image"], image)
    assert not torch.equal(model.predict(noise, do)["image"], image), "another view keeps its own settings"
    assert torch.equal(guided.predict(noise)["image"], model.predict(noise)["image"]), "nothing is intervened on"
    half = {"size": torch.stack([obs["size"][0], torch.tensor(0.7)])}  # the first image keeps its value
    kept, changed = guided.predict(noise, half, obs)["image"]
    difference = (kept.int() - model.predict(noise, half)["image"][0].int()).abs()
    assert difference.max() <= 1, "no guidance where nothing changes; a batch of another size rounds otherwise"
    assert torch.equal(changed, image[1])
    assert not torch.equal(kept, guided.predict(noise, half)["image"][0]), "which only the observation can tell"


def test_an_answer_is_saved_and_drawn(model: Model, obs: dict[str, Tensor], tmp_path: Path) -> None:
    """As counterfactual.py writes it; a folder with content is refused."""
    answer = model.counterfactual(list(obs["image"]), {"kind": "disk"}, attributes=KNOWN)
    answer.save(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir() if path.name not in (".finished", "command.json")}
    pictures = {"00000__kind=disk.png", "00001__kind=disk.png"}
    assert names == {"counterfactuals.csv", "trust.csv", "grid.png"} | pictures
    with Image.open(tmp_path / "out" / "00001__kind=disk.png") as file:
        assert np.array_equal(np.asarray(file).transpose(2, 0, 1), answer["image"][1].numpy())
    with pytest.raises(InputError, match="out .*: the folder is not empty; name another, or write into it with over"):
        answer.save(tmp_path / "out")
    answer.save(tmp_path / "out", overwrite=True)
    sheet = answer.plot()
    assert sheet.width > 2 * 56 and sheet.height > 4 * 56


def test_what_is_loaded_is_the_same_from_everywhere(semantic_run: TrainingRun, tmp_path: Path) -> None:
    """From a checkpoint or the folder of a run; a bundled model, spatial ones too, by its name."""
    run = tmp_path / "run"
    (run / "image").mkdir(parents=True)
    (run / "image" / "checkpoint.pt").write_bytes(semantic_run.checkpoint.read_bytes())
    weights = [dscm.load(source).mechanism.state_dict() for source in (semantic_run.checkpoint, run, str(run))]
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())
    kinds = {name: dscm.load(name).mechanism.kind for name in ("morphomnist", "morphomnist-spatial", "embed")}
    assert kinds == {"morphomnist": "semantic", "morphomnist-spatial": "spatial", "embed": "spatial"}


def test_a_model_moves(model: Model, obs: dict[str, Tensor]) -> None:
    """To a device by name; there is only one everywhere."""
    assert model.to("cpu") is model and model.device == torch.device("cpu")
    with pytest.raises(InputError, match="device abacus: not available here"):
        model.to("abacus")


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"size": 2.0}, "size=2.0: must be 0.3 to 0.9"),
        ({"size": float("nan")}, "size=nan: must be 0.3 to 0.9"),
        ({"kind": "star"}, "kind=star: .*must be disk, square, cross"),
        ({"width": 1}, r"unknown variable 'width'; known: size \(0.3 to 0.9\)"),
        ({"size": [0.5, 0.5, 0.5]}, "size: 3 values for a batch of 2"),
    ],
)
def test_wrong_interventions(model: Model, obs: dict[str, Tensor], do: dict[str, Any], message: str) -> None:
    """In Python's words, whichever way one asks."""
    noise = model.abduct(obs)
    with pytest.raises(InputError, match=message):
        model.effect(obs, noise, do, "total")
    with pytest.raises(InputError, match=message):
        model.counterfactual(list(obs["image"]), do, attributes=KNOWN)
    if "3 values" not in message:
        with pytest.raises(InputError, match=message):
            model.predict(noise, do)
        with pytest.raises(InputError, match=message):
            model.sample(1, do=do)


def test_wrong_settings_effects_and_observations(model: Model, obs: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="guidence: not a setting of semantic; known: steps, grid, "):
        model.using(guidence=3)
    with pytest.raises(InputError, match="steps 0: must be an integer, at least 1"):
        model.counterfactual(list(obs["image"]), {"size": 0.5}, attributes=KNOWN, steps=0)
    with pytest.raises(InputError, match="effect 'directt': must be one of total, direct, indirect"):
        model.effect(obs, model.abduct(obs), {"size": 0.5}, "directt")
    for image in (obs["image"] / 255, obs["image"][:, :1], obs["image"][..., :16]):
        with pytest.raises(InputError, match=r"'image' must be uint8 of shape \(B, 3, 32, 32\)"):
            model.abduct(obs | {"image": image})
    with pytest.raises(InputError, match="No such file"):
        model.observe(tmp_path / "absent.png")
    with pytest.raises(InputError, match="unknown variable 'length'"):
        model.observe(list(obs["image"]), {"length": 1.0})


def test_load_refuses(tmp_path: Path) -> None:
    known = "bundled models: celeba, .*morphomnist-spatial"
    with pytest.raises(InputError, match=f"absent: no such checkpoint or run folder; {known}"):
        dscm.load(tmp_path / "absent")
    with pytest.raises(InputError, match="no trained mechanism of the image is there"):
        dscm.load(tmp_path)
    with pytest.raises(InputError, match="holds a model of kind 'oracle'; 'image' is needed here"):
        dscm.load(assets.find("oracle"))
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = dscm.lode


def test_the_public_names_exist() -> None:
    assert {name for name in dscm.__all__ if getattr(dscm, name) is not None} == set(dscm.__all__)


def test_the_example_of_load() -> None:
    assert doctest.testmod(model_module).failed == 0


def run_cell(code: str, names: dict[str, Any]) -> list[Any]:
    """Run code as a notebook does, and return the value of every line that is an expression."""
    values = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.Expr):
            values.append(eval(compile(ast.Expression(node.value), "README.md", "eval"), names))
        else:
            exec(compile(ast.Module([node], []), "README.md", "exec"), names)
    return values


def test_the_readme_s_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's Python runs as written, here on a few of the digits, and returns what it says."""
    n = 4
    monkeypatch.setattr(assets, "DIGITS", copy_digits(tmp_path / "digits", [f"{i:05}.png" for i in range(n)]))
    (code,) = re.findall("```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (intensity, images), saved, sheet, marks, three, effect = run_cell(code, names)
    answer, obs = names["answer"], names["obs"]
    assert images.shape == (n, 1, 28, 28) and images.dtype == torch.uint8
    thinner = answer.obs["thickness"] < 4
    assert (answer["thickness"] == 4).all() and thinner.sum() == n - 1
    assert torch.equal(intensity > answer.obs["intensity"], thinner), "thickness raises intensity"
    assert saved is None and len(list((tmp_path / "out").glob("*__thickness=4*.png"))) == n
    assert {"counterfactuals.csv", "grid.png"} < {path.name for path in (tmp_path / "out").iterdir()}
    assert len(marks) == n and all("off the support" not in found for found in marks)
    assert isinstance(sheet, Image.Image) and sheet.width > n * 56
    assert three.shape == (1, 1, 28, 28) and three.dtype == torch.uint8 and not torch.equal(three, obs["image"])
    assert names["model"].observe(list(three))["digit"].tolist() == [3], "the oracle sees a three"
    torch.testing.assert_close(names["direct"]["intensity"], obs["intensity"])
    assert names["direct"]["thickness"].tolist() == [4]
    torch.testing.assert_close(names["soft"]["intensity"], (obs["intensity"] + 10).clamp(max=255))
    assert effect.low < effect.mean < effect.high and effect.mean == pytest.approx(84.3, abs=1), (
        "as the equation has it"
    )
    assert names["samples"]["digit"].tolist() == [3] * 4 and names["samples"]["image"].shape == (4, 1, 28, 28)
