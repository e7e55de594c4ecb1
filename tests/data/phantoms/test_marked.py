"""Real mammograms with drawn markers as a set of EMBED, whose true counterfactuals are known."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dscm.cli import phantoms
from dscm.data.phantoms import marked
from dscm.data.phantoms.layouts import Recipe, read_recipe
from dscm.data.phantoms.tissue_labels import Mammogram, list_mammograms
from dscm.data.sets import DataSet, Source, get_data_set
from dscm.errors import InputError
from dscm.evaluation.task import set_task
from dscm.graphs import get_graph
from tests.support.breasts import MARGIN, make_breast, write_folder

MARKERS = ("circle marker", "triangle marker")
VERSIONS = 6  # four at one place, two at another


def write(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run ``python -m dscm.cli.phantoms embed`` in this process."""
    monkeypatch.setattr("sys.argv", ["phantoms", "embed", *map(str, arguments)])
    phantoms.main()


def read_all(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen mammograms of eight women."""
    return write_folder(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module", params=[0, 7])
def written(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set that the command writes, without and with drawings."""
    out, patch = tmp_path_factory.mktemp("set"), pytest.MonkeyPatch()
    with patch.context() as context:
        drawings = ("--n", request.param, "--drawn-versions", 2) if request.param else ()
        write(context, "--out", out, "--on", source, "--versions", VERSIONS, "--seed", 3, *drawings, "--workers", 1)
    return out


@pytest.fixture
def data_set(written: Path, tmp_path: Path) -> DataSet:
    """The set as training reads it."""
    return get_data_set(get_graph("embed"), Source(written, tmp_path))


def test_the_layout_is_that_of_embed(written: Path) -> None:
    recipe = read_recipe(written)
    assert recipe is not None and (recipe.real, recipe.versions, recipe.seed) == (16, VERSIONS, 3)
    with open(written / "markers.csv") as one, open(written / "findings.csv") as two:
        markers, findings = list(csv.DictReader(one)), list(csv.DictReader(two))
    assert len(markers) == len(findings) == recipe.n + 16 * VERSIONS
    assert (
        len(list((written / "images").iterdir())) == len(markers) and len(list((written / "unmarked").iterdir())) == 16
    )
    for i in range(16):
        rows = slice(recipe.n + i * VERSIONS, recipe.n + (i + 1) * VERSIONS)
        assert {row["empi_anon"] for row in markers[rows]} == {f"w{i // 2}"}
        assert {row["tissueden"] for row in findings[rows]} == {str(1 + i // 2 % 3)}
        assert {row["is_positive"] for row in findings[rows]} == {str(int(i // 2 == 1))}


def test_pixels_are_those_of_the_mammogram_but_for_the_markers(written: Path) -> None:
    """At their own depth, without the margin; an image without markers is the unmarked one."""
    recipe = read_recipe(written)
    assert recipe is not None
    with open(written / "markers.csv") as file:
        rows = list(csv.DictReader(file))[recipe.n :]
    for i in range(16):
        dtype = (np.uint8, np.uint16)[i % 2]
        image = make_breast(i, bool(i % 2), dtype)
        expected = image[:, :-MARGIN] if i % 2 else image[:, MARGIN:]
        unmarked = np.asarray(Image.open(written / "unmarked" / f"{i:06}.png"))
        assert np.array_equal(unmarked, expected)
        for row in rows[i * VERSIONS : (i + 1) * VERSIONS]:
            changed = (np.asarray(Image.open(written / row["image_path"])) != unmarked).mean()
            assert (changed > 0) == any(row[name] == "1" for name in MARKERS) and changed < 0.1


def test_truth_under_the_factual_markers_is_the_image_itself(data_set: DataSet) -> None:
    """To the byte; without its markers it is the unmarked image, and only the marker's place changes."""
    loaded, truth = data_set.load("train", 64), data_set.truth()
    data = {name: value[::4] for name, value in loaded.items()}
    assert truth is not None and truth.place is not None and truth.known == truth.local == frozenset(MARKERS)
    assert torch.equal(truth.draw(data, data), data["image"])
    for name in MARKERS:
        flipped = truth.draw(data, data | {name: 1 - data[name]})
        changed, place = flipped != data["image"], truth.place(data, name)
        assert changed.flatten(1).any(dim=1).all() and place.float().mean() < 0.1
        around = torch.nn.functional.max_pool2d(place.float(), 5, 1, 2) > 0  # as far as bicubic kernels reach
        assert not (changed & ~around).any()


def test_an_evaluation_knows_the_truth_of_markers(data_set: DataSet) -> None:
    """And their places; redrawn as it is, an image is itself."""
    loaded, graph = data_set.load("train", 64), get_graph("embed")
    data = {name: value[-4:] for name, value in loaded.items()}
    task = set_task(graph, data, "marginal", 0, data_set.truth())
    assert task.truths.keys() == task.places.keys() == {*MARKERS}
    assert task.redrawn is not None and torch.equal(task.redrawn, data["image"]), "its floor is 0"


def test_women_are_in_one_split(data_set: DataSet) -> None:
    recipe = data_set.recipe
    assert recipe is not None
    women: dict[str, set[int]] = {}
    for split in ("train", "valid", "test"):
        index = data_set.load(split, 16)["index"]  # type: ignore[arg-type]
        women[split] = set(((index[index >= recipe.n] - recipe.n) // VERSIONS // 2).tolist())
    assert sum(map(len, women.values())) == 8 == len(set.union(*women.values()))


def test_images_of_a_group_are_true_counterfactuals_of_each_other(data_set: DataSet) -> None:
    """They differ in their markers alone, which lie at the same places; no group is in two splits."""
    recipe, truth, seen = data_set.recipe, data_set.truth(), set[int]()
    assert recipe is not None and truth is not None
    for split in ("train", "valid", "test"):
        data = data_set.load(split, 64)  # type: ignore[arg-type]
        index, group = data["index"], data["group"]
        place = (index - recipe.n) // VERSIONS * VERSIONS + (index - recipe.n) % VERSIONS // 4 * 4
        base = torch.where(index < recipe.n, index // 2, recipe.n + place)
        assert all(((group == g) == (base == b)).all() for g, b in zip(group.tolist(), base.tolist()))
        assert not seen & set(group.tolist())
        seen |= set(group.tolist())
        pairs = (group[:-1] == group[1:]).nonzero()[:, 0]
        one, two = ({name: value[i] for name, value in data.items()} for i in (pairs, pairs + 1))
        assert len(pairs) and all(torch.equal(one[name], two[name]) for name in ("density", "cancer"))
        attributes = {name: two[name] for name in (*MARKERS, "density", "cancer")}
        assert torch.equal(truth.draw(one, attributes), two["image"])


def test_a_group_shows_every_combination_of_markers(written: Path) -> None:
    """Four versions at a place do; which is the first differs."""
    with open(written / "markers.csv") as file:
        rows = list(csv.DictReader(file))
    groups: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(tuple(row[name] for name in MARKERS))
    whole = [group for group in groups.values() if len(group) == 4]
    assert len(whole) == 16 and all(len(set(group)) == 4 for group in whole)
    assert len({group[0] for group in whole}) > 1


def test_in_sets_of_earlier_programs_each_version_has_its_own_places(written: Path) -> None:
    """Their recipes do not say how many share them."""
    recipe = read_recipe(written)
    assert recipe is not None
    earlier = dataclasses.replace(recipe, grouped=1)
    versions = recipe.n + torch.arange(4)
    now, then = (marked.find_boxes(written, kept, versions, MARKERS[0]) for kept in (recipe, earlier))
    assert len(now.unique(dim=0)) == 1 and len(then.unique(dim=0)) == 4 and torch.equal(now[0], then[0])


def test_the_same_command_writes_the_same_files(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of processes."""
    real, _ = list_mammograms(source)
    for name, workers in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        marked.write_marked(tmp_path / name, Recipe("embed", 0, 3, real=16, versions=1), source, real, workers)
    assert read_all(tmp_path / "one") == read_all(tmp_path / "two")


def test_labels(source: Path, tmp_path: Path) -> None:
    """What they do not say is said; without any, each image counts as a woman of its own."""
    table = tmp_path / "table.csv"
    table.write_text("Patient;image\nA;views/b00.png\nA;views/b03.png\n")
    real, notes = list_mammograms(source, table)
    assert real == [Mammogram(Path("views/b00.png"), "A", 2, 0), Mammogram(Path("views/b03.png"), "A", 2, 0)]
    assert [note.partition(": ")[2] for note in notes] == [
        "14 images have no row: 'views/b01.png', 'views/b02.png', 'views/b04.png', 'views/b05.png', 'views/b06.png', "
        "…; left out",
        "says nothing of density, which counts as 2 in every image",
        "says nothing of cancer, which counts as 0 in every image",
    ]
    alone, (note,) = list_mammograms(write_folder(tmp_path / "alone", 2, labels=False))
    assert [mammogram.woman for mammogram in alone] == [f"views/b0{i}.png" for i in range(4)]
    assert "labels.csv: each image counts as a woman of its own" in note


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,tissue\nviews/b00.png,F\n", "no column 'woman'"),
        ("image,woman\nviews/b00.png,\n", "line 2, column 'woman': empty; name the woman"),
        ("image,woman\nviews/b99.png,1\n", "1 rows name no image of .*: 'views/b99.png'"),
        ("image,woman,tissue\nviews/b00.png,1,X\n", "column 'tissue': 'X'; allowed: F, G, D"),
        ("image,woman,density\nviews/b00.png,1,5\n", "column 'density': 5; allowed: 1 to 4"),
    ],
)
def test_damaged_labels(source: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=f"t.csv.*{message}"):
        list_mammograms(source, tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", "--labels", "a.csv", "--n", 3), "--labels: has no effect without --on"),
        (("embed", "--versions", 3, "--n", 3), "--versions: has no effect without --on"),
        (("celebahq", "--n", 3, "--drawn-versions", 2), "--drawn-versions: versions are drawn in the layout of embed"),
        (("embed", "--on", "a", "--drawn-versions", 2), "--drawn-versions: versions are drawn in the layout of embed"),
        (("embed",), "--n: say how many images to draw"),
        (("celebahq", "--on", "a"), "--on: markers are drawn in the layout of embed alone"),
        (("embed", "--on", "a", "--plain"), "--on: markers are drawn in the layout of embed alone, without --plain"),
        (("embed", "--on", "absent"), "absent: no such folder"),
    ],
)
def test_the_command_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: tuple, message: str
) -> None:
    monkeypatch.setattr("sys.argv", ["phantoms", *map(str, arguments), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        phantoms.main()
    assert caught.value.code == 2 and f"error: {message}" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_picture_without_a_breast_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """And nothing is written."""
    folder = write_folder(tmp_path / "in", 1)
    Image.fromarray(np.zeros((200, 100), np.uint8)).save(folder / "views" / "b01.png")
    with pytest.raises(SystemExit):
        write(monkeypatch, "--out", tmp_path / "out", "--on", folder, "--workers", 1)
    assert "b01.png: no breast is found in it" in capsys.readouterr().err and not (tmp_path / "out").exists()
