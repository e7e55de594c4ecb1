"""The notebook's API."""

import doctest
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dscm
from dscm import model as model_module
from dscm.errors import InputError
from tests.support.scripts import ROOT


def test_a_notebook(shapes_run: Path, shapes_folder: Path) -> None:
    """Paths, pictures and arrays are the same observation; composition returns the attributes, and do sets them."""
    model = dscm.load(shapes_run)
    model.mechanism.sampling = model.mechanism.sampling.__class__(guidance=1.0, steps=3)
    path = shapes_folder / "images" / "00000.png"
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
        model.observe([shapes_folder / "absent.png"])


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
