"""Drawn sets in the published layouts: reproducible, and read by the loaders of the real ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dscm.data import celebahq, embed
from dscm.data.mammogram import prepare
from dscm.data.phantoms import faces, layouts, mammograms
from dscm.data.phantoms.layouts import Recipe, read_recipe, write_set
from dscm.errors import InputError
from dscm.graphs import GRAPHS

SEED = 3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write 30 faces, 13 mammograms and 10 pendulums, and return the folders by kind."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("celebahq", "embed", "pendulum")}
    write_set(folders["pendulum"], Recipe("pendulum", 10, SEED))
    write_set(folders["celebahq"], Recipe("celebahq", 30, SEED))
    write_set(folders["embed"], Recipe("embed", 13, SEED))
    return folders


def read_all(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", [faces, mammograms])
def test_an_image_depends_on_the_seed_and_its_index_alone(kind: type) -> None:
    index = torch.tensor([9, 4, 17])
    attributes = kind.draw_attributes(SEED, index)
    images = np.asarray(kind.redraw(SEED, index, attributes))
    alone = kind.redraw(SEED, index[1:2], {name: values[1:2] for name, values in attributes.items()})
    assert np.array_equal(images[1:2], alone)
    assert not np.array_equal(images, kind.redraw(SEED + 1, index, attributes))
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize(("kind", "n"), [("celebahq", 30), ("embed", 13), ("pendulum", 10)])
def test_files_do_not_depend_on_the_workers(
    written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, n: int
) -> None:
    monkeypatch.setattr(layouts, "CHUNK", 7)
    write_set(tmp_path, Recipe(kind, n, SEED), workers=2)
    assert read_all(tmp_path) == read_all(written[kind])


def test_celebahq_line_by_line(written: dict[str, Path]) -> None:
    folder = written["celebahq"]
    hq = folder / "CelebAMask-HQ"
    assert {path.name for path in (hq / "CelebA-HQ-img").iterdir()} == {f"{i}.jpg" for i in range(30)}

    header, *rows = (hq / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()
    assert header.split() == ["idx", "orig_idx", "orig_file"] and "  " in header and "  " in rows[0]
    fields = [row.split() for row in rows]
    original = [int(orig_idx) for _, orig_idx, _ in fields]
    assert [idx for idx, _, _ in fields] == [str(i) for i in range(30)]
    assert sorted(original) == list(range(30)) and original != sorted(original)
    assert all(name == f"{number + 1:06}.jpg" for number, (_, _, name) in zip(original, fields))

    partition = [line.split(" ") for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    assert partition == [[f"{k + 1:06}.jpg", "0" if k < 24 else "1" if k < 27 else "2"] for k in range(30)]

    count, names, *rows = (hq / "CelebAMask-HQ-attribute-anno.txt").read_text().splitlines()
    assert count == "30" == str(len(rows)) and len(set(names.split())) == 40 and names.split() == sorted(names.split())
    drawn = faces.draw_attributes(SEED, torch.arange(30))
    for i, row in enumerate(rows):
        expected = [1 if name in drawn and drawn[name][i] else -1 for name in names.split()]
        assert row == f"{i}.jpg  {' '.join(map(str, expected))}"


def test_embed_line_by_line(written: dict[str, Path]) -> None:
    folder = written["embed"]
    drawn = mammograms.draw_attributes(SEED, torch.arange(13))
    circle, triangle, cancer, density = (drawn[name].tolist() for name in mammograms.SHARES)
    patients = (0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 5, 5)
    names = [f"images/{i:06}.png,1000000{patient}" for i, patient in enumerate(patients)]
    markers, findings = ((folder / name).read_text().splitlines() for name in ("markers.csv", "findings.csv"))
    assert markers[0] == "image_path,empi_anon,group,circle marker,triangle marker"
    assert markers[1:] == [f"{name},{i},{a},{b}" for i, (name, a, b) in enumerate(zip(names, circle, triangle))]
    assert findings[0] == "image_path,empi_anon,tissueden,is_positive"
    assert findings[1:] == [f"{name},{1 + d},{c}" for name, d, c in zip(names, density, cancer)]
    assert {path.name for path in (folder / "images").iterdir()} == {f"{i:06}.png" for i in range(13)}


def test_celebahq_files_hold_the_truth(written: dict[str, Path], tmp_path: Path) -> None:
    """The loader of the real set reads them, and what it reads can be drawn again from the recipe."""
    recipe = read_recipe(written["celebahq"])
    data = celebahq.load(written["celebahq"], "valid", GRAPHS["celebahq"].image_parents, faces.SIZE, tmp_path)
    original = np.random.default_rng(SEED).permutation(30)
    index = torch.from_numpy(np.flatnonzero((original >= 24) & (original < 27)))
    attributes = faces.draw_attributes(recipe.seed, index)
    assert all(torch.equal(data[name], values) for name, values in attributes.items())
    truth = faces.redraw(recipe.seed, index, attributes)
    assert torch.equal(data["image"], faces.compress(truth))
    assert (data["image"].int() - truth.int()).abs().float().mean() < 4  # grey levels


def test_embed_files_hold_the_truth(written: dict[str, Path], tmp_path: Path) -> None:
    folder, recipe = written["embed"], read_recipe(written["embed"])
    index = torch.arange(recipe.n)
    images = mammograms.redraw(recipe.seed, index, mammograms.draw_attributes(recipe.seed, index))
    for i, image in enumerate(images):
        with Image.open(folder / "images" / f"{i:06}.png") as file:
            assert file.mode.startswith("I;16") and np.array_equal(np.asarray(file), image)
    csvs = [folder / "markers.csv", folder / "findings.csv"]
    data = embed.load(folder, csvs, "train", list(mammograms.SHARES), 64, tmp_path)
    own = [i for i in index if embed.assign_split(str(10_000_000 + mammograms.patient_of(i).item()), 0) == "train"]
    assert torch.equal(data["image"], torch.stack([prepare(images[i] / 65535, 64) for i in own]))
    assert torch.equal(data["density"], mammograms.draw_attributes(recipe.seed, torch.stack(own))["density"])


def test_recipes(written: dict[str, Path], tmp_path: Path) -> None:
    assert read_recipe(written["embed"]) == Recipe("embed", 13, SEED)
    assert read_recipe(tmp_path) is None
    path = tmp_path / "phantoms.json"
    path.write_text(json.dumps({"kind": "embed", "n": 13, "seed": SEED, "version": layouts.VERSION + 1}))
    assert read_recipe(tmp_path) is None  # another version draws other images
    for text in ("{", "[]", '{"kind": "embed"}'):
        path.write_text(text)
        with pytest.raises(InputError, match="phantoms.json"):
            read_recipe(tmp_path)
