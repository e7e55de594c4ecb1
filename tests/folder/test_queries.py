"""Every form of a query, against values worked out by hand."""

import csv
from pathlib import Path

import pytest
import torch

from dscm.causal.graph_file import get_graph, parse
from dscm.errors import InputError
from dscm.folder.queries import parse_query

DIGITS = get_graph("morphomnist")
SPEC = {
    "variables": {
        "age": {"type": "positive"},
        "kind": {"type": "categorical", "values": ["disk", "cross"]},
        "striped": {"type": "binary"},
        "image": {"type": "image", "size": 16, "channels": 1, "parents": ["age", "kind", "striped"]},
    }
}
OWN = parse(SPEC, Path("own.json"))
NAMES = ["a.png", "b/c.png"]
OBS = {"age": torch.tensor([2.0, 5.0]), "kind": torch.tensor([0, 1]), "striped": torch.tensor([1, 0])}


class Pictures:
    """The observed images, of which a query may look up values."""

    folder = Path("pictures")
    names = NAMES
    skip_missing = False

    def look_up(self, name: str, attribute: str) -> float:
        return OBS[attribute][NAMES.index(name)].item()


def ask(text: str) -> dict[str, list[float]]:
    """Resolve a query about the observation."""
    query = parse_query(text, OWN, Pictures())
    return {name: value.tolist() for name, value in query.resolve(OBS, NAMES).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age=3", {"age": [3, 3]}),
        ("age=+1.5", {"age": [3.5, 6.5]}),
        ("age=+-1", {"age": [1, 4]}),
        ("age=*0.5", {"age": [1, 2.5]}),
        ("striped=flip", {"striped": [0, 1]}),
        ("kind=cross", {"kind": [1, 1]}),
        ("kind=@a.png,age=@b/c.png", {"kind": [0, 0], "age": [5, 5]}),
        ("striped=flip, age = +1", {"striped": [0, 1], "age": [3, 6]}),
    ],
)
def test_every_form(text: str, expected: dict[str, list[float]]) -> None:
    assert ask(text) == expected


def test_a_class_is_named_by_its_label() -> None:
    """Not by its place, though a whole number may be written with a fraction of zero."""
    spec = {"variables": {"stage": {"type": "categorical", "values": [1, 2, 3]},
            "image": {"type": "image", "size": 16, "channels": 1, "parents": ["stage"]}}}  # fmt: skip
    graph, obs = parse(spec, Path("own.json")), {"stage": torch.tensor([0, 1])}
    for text in ("stage=3", "stage=3.0"):
        query = parse_query(text, graph)
        assert query.resolve(obs, NAMES)["stage"].tolist() == [2, 2]
    with pytest.raises(InputError, match="stage must be 1, 2, 3"):
        parse_query("stage=0", graph)


def test_a_bound_is_inside() -> None:
    """Also one that float32 rounds outwards."""
    query = parse_query("slant=1.2", DIGITS)
    assert query.resolve({"slant": torch.zeros(2)}, NAMES)["slant"].tolist() == pytest.approx([1.2, 1.2])


def test_a_column_of_a_file_of_other_images_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of images that were left out of the folder are no matter then; a missing value always is."""
    path = tmp_path / "wished.csv"
    path.write_text("image;Kind\n.\\b\\c.PNG;Cross\nd.png;disk\na.png;disk\n")
    with pytest.raises(InputError, match="line 3: 'd.png' is not an image of the folder"):
        ask(f"kind=@{path}:kind")
    monkeypatch.setattr(Pictures, "skip_missing", True)
    assert ask(f"kind=@{path}:kind") == {"kind": [0, 1]}
    path.write_text("image;kind\na.png;disk\nb/c.png;\n")
    with pytest.raises(InputError, match="do kind=@.*wished.csv:kind: no value for 'b/c.png'"):
        ask(f"kind=@{path}:kind")


def test_a_column_of_another_file(tmp_path: Path) -> None:
    """Each image takes the value of the row that names it, whatever the order of the rows."""
    with open(tmp_path / "wished.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "years", "form"], ["b/c.png", 7, "disk"], ["a.png", 8.5, "cross"]])
    path = tmp_path / "wished.csv"
    assert ask(f"age=@{path}:years,kind=@{path}:form") == {"age": [8.5, 7], "kind": [1, 0]}
    with pytest.raises(InputError, match="no column 'weight'"):
        ask(f"age=@{path}:weight")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age=+-3", "age of a.png would be -1; allowed: more than 0"),
        ("age=0", "do age=0: age must be more than 0"),
        ("age=old", "age must be more than 0"),
        ("kind=square", "kind must be disk, cross"),
        ("kind=1", "kind must be disk, cross"),
        ("kind=+1", "kind is not a number to add to or to multiply"),
        ("age=flip", "only a binary variable flips"),
        ("striped=2", "striped must be 0 or 1"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(text)
