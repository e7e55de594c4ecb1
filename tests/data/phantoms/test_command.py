"""The command that draws a set."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from dscm.cli import phantoms as command
from dscm.data.attributes import read_attribute_table
from dscm.data.phantoms import faces, mammograms, pendulum
from dscm.data.phantoms.layouts import Recipe, new_folder, write_set
from dscm.graphs import get_graph

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


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run ``python -m dscm.cli.phantoms`` in this process."""
    monkeypatch.setattr(sys, "argv", ["phantoms", *map(str, arguments)])
    monkeypatch.delitem(sys.modules, command.__name__, raising=False)  # runpy warns where it is already there
    runpy.run_module("dscm.cli.phantoms", run_name="__main__")


def test_the_command_writes_a_folder(written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one below missing parents, or an empty one; nothing else is left beside it."""
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new" / "deep"):
        run_command(monkeypatch, "celebahq", "--out", out, "--n", 30, "--seed", SEED, "--workers", 1)
        assert read_all(out) == read_all(written["celebahq"])
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("kind", "images"), [("celebahq", "CelebAMask-HQ/CelebA-HQ-img"), ("embed", "images"), ("pendulum", ".")]
)
def test_a_plain_folder_holds_the_sets_images_and_what_its_graph_knows_of_them(
    written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, images: str
) -> None:
    run_command(monkeypatch, kind, "--plain", "--out", tmp_path, "--n", 9, "--seed", SEED, "--workers", 1)
    paths = sorted(path for path in tmp_path.iterdir() if path.name != "attributes.csv")
    assert len(paths) == 9
    assert all(path.read_bytes() == (written[kind] / images / path.name).read_bytes() for path in paths)
    given = read_attribute_table(
        tmp_path / "attributes.csv", [path.name for path in paths], get_graph(kind).attributes
    ).values
    drawn = {"celebahq": faces, "embed": mammograms, "pendulum": pendulum}[kind].draw_attributes(SEED, torch.arange(9))
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
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("written")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
