"""The folder of a run: one graph, where its data lie, and what it says of itself."""

from pathlib import Path

import pytest
import torch

from dscm import runs
from dscm.errors import InputError
from dscm.graphs import get_graph, read_graph


def test_an_output_folder_holds_no_image(tmp_path: Path) -> None:
    """A link to itself, which is no folder at all, is refused elsewhere."""
    (tmp_path / "images" / "sub").mkdir(parents=True)
    paths = [Path("a.png"), Path("sub/b.png")]
    runs.check_apart(tmp_path / "images" / "out", tmp_path / "images", paths)
    runs.check_apart(tmp_path / "out", tmp_path / "images", paths)
    (tmp_path / "loop").symlink_to("loop")
    runs.check_apart(tmp_path / "loop", tmp_path / "images", paths)
    for name, told in (("images", "is the folder of the images"), ("images/sub", "holds the image sub/b.png")):
        with pytest.raises(InputError, match=told):
            runs.check_apart(tmp_path / name, tmp_path / "images", paths)


def test_a_damaged_note_of_where_the_data_lie(shapes_run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    assert runs.find_data(shapes_run) == (shapes_folder / "images", ())
    (tmp_path / "data.json").write_text("[]")
    with pytest.raises(InputError, match="data.json: damaged"):
        runs.find_data(tmp_path)


def test_one_run_has_one_graph(shapes_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="graph.json: is another graph than morphomnist"):
        runs.write_graph(shapes_run, get_graph("morphomnist"))
    runs.write_graph(tmp_path / "new", get_graph("morphomnist"))
    again = read_graph(tmp_path / "new" / "graph.json")
    assert again.key == "morphomnist", "a copy of a built-in graph is that graph"


def test_chapters_are_replaced_in_place(tmp_path: Path) -> None:
    for title, text in (("image", "one"), ("oracle", "two"), ("image", "three == four")):
        runs.describe(tmp_path, title, text)
    text = (tmp_path / "README.txt").read_text()
    assert text.index("== image ==\n\nthree == four") < text.index("== oracle ==\n\ntwo") and "one" not in text[100:]


def test_a_readme_in_another_encoding_keeps_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_bytes("My dömo\r\n".encode("cp1252"))
    runs.describe(tmp_path, "image", "one")
    assert "My dömo".encode("cp1252") in (tmp_path / "README.txt").read_bytes()


def test_no_oracle_where_all_is_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every attribute of morphomnist-intensity is measured; leave it out"):
        runs.find_oracle(tmp_path / "oracle.pt", None, get_graph("morphomnist-intensity"), torch.device("cpu"))
