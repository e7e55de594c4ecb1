"""Drawn stand-ins: reproducible, in the published layouts, and each attribute changes its own part alone."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dscm.data import embed
from dscm.data import celeba as celebahq
from dscm.data.given import read_given
from dscm.data.mammogram import prepare
from dscm.data.phantoms import __main__ as command
from dscm.data.phantoms import faces, layouts, mammograms
from dscm.data.phantoms.layouts import Recipe, read_recipe, write_set
from dscm.errors import InputError
from dscm.causal.graph_file import GRAPHS, get_graph

SEED = 3
FACES, BREASTS = torch.arange(24), torch.arange(12)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write 30 faces and 13 mammograms, and return the folders by kind."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("celebahq", "embed")}
    write_set(folders["celebahq"], Recipe("celebahq", 30, SEED))
    write_set(folders["embed"], Recipe("embed", 13, SEED))
    return folders


def read_all(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip_faces(name: str) -> tuple[Tensor, Tensor]:
    """Draw faces without and with an attribute: absolute differences (N, SIZE, SIZE), and u and v of every pixel."""
    nuisance, attributes = faces.draw_nuisance(SEED, FACES), faces.draw_attributes(SEED, FACES)
    if name == "Bald":  # a hat hides most of the scalp
        attributes["Wearing_Hat"] = torch.zeros_like(FACES)
    without, with_it = (
        faces.render(nuisance, attributes | {name: torch.full_like(FACES, value)}).int() for value in (0, 1)
    )
    return (with_it - without).abs().amax(dim=1), torch.stack(faces.locate(nuisance.look))


def flip_breasts(name: str) -> tuple[np.ndarray, mammograms.Nuisance]:
    """Draw mammograms without and with an attribute: differences in [0, 1] (N, HEIGHT, WIDTH), and their nuisance."""
    nuisance, attributes = mammograms.draw_nuisance(SEED, BREASTS), mammograms.draw_attributes(SEED, BREASTS)
    without, with_it = (
        mammograms.render(nuisance, attributes | {name: torch.full_like(BREASTS, value)}) / 65535 for value in (0, 1)
    )
    return np.abs(with_it - without), nuisance


def may_change(name: str, u: Tensor, v: Tensor) -> Tensor:
    """Tell which pixels of a face belong to an attribute, u and v being the face's own coordinates."""
    u = u.abs()
    match name:
        case "Smiling":
            return (u < 0.75) & (v > 0.05) & (v < 0.95)
        case "Mouth_Slightly_Open" | "Wearing_Lipstick":
            return (u < 0.48) & (v > 0.28) & (v < 0.95)
        case "Eyeglasses":
            return (u < 0.9) & (v > -0.35) & (v < 0.28)
        case "Male":  # brows, jaw and beard; neither eyes nor nose nor hair
            return (v > -0.5) & (v < 1.1) & (u < 0.9) & ((v < -0.15) | (v > 0.2) | (u > 0.4))
        case "Bald":
            return (v < -0.25) | (u > 0.3)
        case "Wearing_Hat":
            return v < -0.35
    raise AssertionError(name)


@pytest.mark.parametrize("name", list(faces.CAUSES))
def test_an_attribute_of_a_face_changes_its_part_alone(name: str) -> None:
    difference, (u, v) = flip_faces(name)
    assert not (difference.bool() & ~may_change(name, u, v)).any()


@pytest.mark.parametrize("name", list(faces.CAUSES))
def test_an_attribute_of_a_face_shows(name: str) -> None:
    difference, _ = flip_faces(name)
    assert ((difference > 20).sum(dim=(1, 2)) >= 12).all()


def test_a_man_without_a_beard_has_a_broader_jaw() -> None:
    look, noise = faces.draw_nuisance(SEED, FACES)
    nuisance = faces.Nuisance(look._replace(beard=torch.zeros(len(FACES))), noise)
    bald = {name: torch.full_like(FACES, int(name == "Bald")) for name in faces.CAUSES}
    woman, man = (faces.render(nuisance, bald | {"Male": torch.full_like(FACES, value)}).int() for value in (0, 1))
    _, v = faces.locate(look)
    changed = ((man - woman).abs().amax(dim=1) > 20) & (v > 0.2) & (v < 0.9)
    assert (changed.sum(dim=(1, 2)) >= 8).float().mean() > 0.9  # skin may look like the background


def test_faces_follow_the_graph() -> None:
    """Smiles open mouths as often as stated, within five standard errors, and nothing else of the table is off."""
    n = 4000
    values = faces.draw_attributes(SEED, torch.arange(n))
    assert list(values) == list(GRAPHS["celebahq"].image_parents) and faces.CAUSES["Mouth_Slightly_Open"][1] == (
        0.25,
        0.75,
    )
    for name, (parent, shares) in faces.CAUSES.items():
        for value, share in enumerate(shares):
            own = values[name][values[parent] == value] if parent else values[name]
            error = (share * (1 - share) / len(own)) ** 0.5
            assert abs(own.double().mean() - share) < 5 * error, f"{name} where {parent} is {value}"


def test_mammograms_follow_the_graph() -> None:
    n = 4000
    values = mammograms.draw_attributes(SEED, torch.arange(n))
    assert {variable.name for variable in get_graph("embed").attributes} == set(values)
    for name, shares in mammograms.SHARES.items():
        for value, share in enumerate(shares):
            error = (share * (1 - share) / n) ** 0.5
            assert abs((values[name] == value).double().mean() - share) < 5 * error, f"{name} = {value}"


@pytest.mark.parametrize("name", ["circle marker", "triangle marker"])
def test_a_marker_changes_its_box_alone(name: str) -> None:
    """Every changed pixel lies in the box, and the box is no more than two pixels wider; it shows on every breast."""
    difference, nuisance = flip_breasts(name)
    for changed, box in zip(difference, mammograms.marker_box(nuisance, name).numpy()):
        rows, columns = np.nonzero(changed)
        slack = [rows.min() - box[0], columns.min() - box[1], box[2] - 1 - rows.max(), box[3] - 1 - columns.max()]
        assert min(slack) >= 0 and max(slack) <= 2
        assert 9 <= box[3] - box[1] <= 24
        assert changed.max() > 0.15 and (changed > 0.1).sum() > 30


def test_a_cancer_changes_its_place_alone() -> None:
    difference, _ = flip_breasts("cancer")
    for changed in difference:
        rows, columns = np.nonzero(changed)
        assert np.ptp(rows) < 48 and np.ptp(columns) < 48
        assert changed.max() > 0.1 and (changed > 0.05).sum() > 50


def test_denser_is_brighter() -> None:
    nuisance, attributes = mammograms.draw_nuisance(SEED, BREASTS), mammograms.draw_attributes(SEED, BREASTS)
    images = (mammograms.render(nuisance, attributes | {"density": torch.full_like(BREASTS, d)}) for d in range(4))
    means = np.stack([image.mean(axis=(1, 2)) / 65535 for image in images])
    assert (np.diff(means, axis=0) > 0.004).all()


def test_breasts_lie_at_either_edge_on_black() -> None:
    images = mammograms.redraw(SEED, BREASTS, mammograms.draw_attributes(SEED, BREASTS))
    assert images.dtype == np.uint16 and images.shape == (12, 256, 192)
    left, right = images[:, 128, 0] > 0, images[:, 128, -1] > 0
    assert (left != right).all() and left.any() and right.any()
    assert ((images == 0).mean(axis=(1, 2)) > 0.2).all()


def test_patients_share_the_shape_and_nothing_else() -> None:
    index = torch.arange(40)
    patients = mammograms.patient_of(index)
    counts = patients.unique(return_counts=True)[1]
    assert set(counts.tolist()) == {1, 2, 3, 4} and (patients.diff() >= 0).all()
    anatomy = mammograms.draw_nuisance(SEED, index).anatomy
    for patient in range(16):
        own = patients == patient
        assert len(anatomy.half_height[own].unique()) == len(anatomy.droop[own].unique()) == 1
        assert len(anatomy.middle[own].unique()) == own.sum()
    assert len(anatomy.half_height.unique()) == 16


@pytest.mark.parametrize("kind", [faces, mammograms])
def test_an_image_depends_on_the_seed_and_its_index_alone(kind: type) -> None:
    index = torch.tensor([9, 4, 17])
    attributes = kind.draw_attributes(SEED, index)
    images = np.asarray(kind.redraw(SEED, index, attributes))
    alone = kind.redraw(SEED, index[1:2], {name: values[1:2] for name, values in attributes.items()})
    assert np.array_equal(images[1:2], alone)
    assert not np.array_equal(images, kind.redraw(SEED + 1, index, attributes))
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize(("kind", "n"), [("celebahq", 30), ("embed", 13)])
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
    assert markers[0] == "image_path,empi_anon,circle marker,triangle marker"
    assert markers[1:] == [f"{name},{a},{b}" for name, a, b in zip(names, circle, triangle)]
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


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run ``python -m dscm.data.phantoms`` in this process."""
    monkeypatch.setattr(sys, "argv", ["phantoms", *map(str, arguments)])
    monkeypatch.delitem(sys.modules, command.__name__, raising=False)  # runpy warns where it is already there
    runpy.run_module("dscm.data.phantoms", run_name="__main__")


def test_the_command_writes_a_folder(written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one below missing parents, or an empty one; nothing else is left beside it."""
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new" / "deep"):
        run_command(monkeypatch, "celebahq", "--out", out, "--n", 30, "--seed", SEED, "--workers", 1)
        assert read_all(out) == read_all(written["celebahq"])
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("kind", "images"), [("celebahq", "CelebAMask-HQ/CelebA-HQ-img"), ("embed", "images")])
def test_a_plain_folder_holds_the_sets_images_and_what_its_graph_knows_of_them(
    written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, images: str
) -> None:
    run_command(monkeypatch, kind, "--plain", "--out", tmp_path, "--n", 9, "--seed", SEED, "--workers", 1)
    paths = sorted(path for path in tmp_path.iterdir() if path.name != "attributes.csv")
    assert len(paths) == 9
    assert all(path.read_bytes() == (written[kind] / images / path.name).read_bytes() for path in paths)
    given = read_given(tmp_path / "attributes.csv", [path.name for path in paths], get_graph(kind).attributes)
    drawn = {"celebahq": faces, "embed": mammograms}[kind].draw_attributes(SEED, torch.arange(9))
    assert {name: value.tolist() for name, value in given.items()} == {k: v.tolist() for k, v in drawn.items()}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_command_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, kind: str
) -> None:
    out = tmp_path / "out"
    precious = out if kind == "file" else out / "precious"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("mine")
    with pytest.raises(SystemExit) as caught:
        run_command(monkeypatch, "embed", "--out", out, "--n", 2)
    assert caught.value.code == 2 and str(out) in capsys.readouterr().err
    assert precious.read_text() == "mine" and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("arguments", [["voc", "--n", 1], ["embed", "--n", 0], ["embed", "--n", 1, "--seed", -1]])
def test_the_command_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(monkeypatch, *arguments, "--out", tmp_path / "out")
    assert caught.value.code == 2 and not list(tmp_path.iterdir())


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), command.new_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("written")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
