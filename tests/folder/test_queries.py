"""Every form of a query, against values worked out by hand."""

import csv
from pathlib import Path

import pytest
import torch

from dscm.causal.graph_file import parse
from dscm.errors import InputError
from dscm.folder.queries import parse_queries, parse_query
from dscm.graphs import get_graph

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
    do, refused = query.resolve(OBS, NAMES)
    assert not refused
    return {name: value.tolist() for name, value in do.items()}


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
        assert query.resolve(obs, NAMES)[0]["stage"].tolist() == [2, 2]
    with pytest.raises(InputError, match="stage must be 1, 2, 3"):
        parse_query("stage=0", graph)


def test_a_bound_is_inside() -> None:
    """Also one that float32 rounds outwards."""
    query = parse_query("slant=1.2", DIGITS)
    assert query.resolve({"slant": torch.zeros(2)}, NAMES)[0]["slant"].tolist() == pytest.approx([1.2, 1.2])


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
    ("text", "before", "after"),
    [
        ("age=soft:+1.5", [2.0, 5.0], [3.5, 6.5]),
        ("age=soft:*0.5", [2.0, 5.0], [1.0, 2.5]),
        ("striped=soft:flip", [1, 0], [0, 1]),
        ("kind=cross, age=soft:+-1", [2.0, 5.0], [1.0, 4.0]),
    ],
)
def test_every_soft_form(text: str, before: list[float], after: list[float]) -> None:
    """A function of what the mechanism gives, in place of a value."""
    query = parse_query(text, OWN, Pictures())
    do, refused = query.resolve(OBS, NAMES)
    ((name, change),) = query.soft.items()
    assert change(torch.tensor(before)).tolist() == after and do[name] is change and not refused
    assert do.keys() == query.variables.keys() == query.unconditional.keys()
    assert query.text == text.replace(", ", ",")


def test_an_angle_turns() -> None:
    """It has no multiple, as its zero is anywhere."""
    colour = get_graph("colour-morphomnist")
    do, _ = parse_query("hue=+0.25", colour).resolve({"hue": torch.tensor([0.5, 0.9])}, NAMES)
    assert do["hue"].tolist() == pytest.approx([0.75, 1.15])
    for text in ("hue=*2", "hue=soft:*2"):
        with pytest.raises(InputError, match="hue is not a number to multiply"):
            parse_query(text, colour)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age=soft:3", "a soft change is soft:[+]NUMBER, soft:[*]NUMBER or soft:flip"),
        ("age=soft:", "a soft change is"),
        ("age=soft:@a.png", "a soft change is"),
        ("age=soft:+x", "'x' is not a finite number"),
        ("age=soft:flip", "only a binary variable flips"),
        ("kind=soft:+1", "kind is not a number to add to or to multiply"),
        ("age=soft:+1,age=3", "age is set twice"),
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


def test_an_image_that_leaves_the_domain_is_refused_alone() -> None:
    """It keeps what was observed, so that the others are answered."""
    do, refused = parse_query("age=+-3", OWN).resolve(OBS, NAMES)
    assert do["age"].tolist() == [2, 2]
    assert refused == {"a.png": "age would be -1; allowed: more than 0"}


LABELS = parse(
    {"variables": {"er": {"type": "categorical", "values": ["-", "+", "flip", "@x", "*2", "soft:+1"]},
                   "kind": {"type": "categorical", "values": ["disk", "disk, round", "a=1, er=+"]},
                   "image": {"type": "image", "size": 16, "channels": 1, "parents": ["er", "kind"]}}},
    Path("labels.json"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("er=+", {"er": 1}),
        ("er=flip", {"er": 2}),
        ("er=@x", {"er": 3}),
        ("er=*2,kind=disk", {"er": 4, "kind": 0}),
        ("er=soft:+1", {"er": 5}),
        ("kind=disk, round", {"kind": 1}),
        ("kind=disk, er=-", {"kind": 0, "er": 0}),
        ("kind=disk, round, er=+", {"kind": 1, "er": 1}),
        ("kind=a=1, er=+ , er=-", {"kind": 2, "er": 0}),
    ],
)
def test_labels_are_asked_for_whatever_they_hold(text: str, expected: dict[str, int]) -> None:
    """Signs of other forms of a value, commas, and even other queries."""
    query = parse_query(text, LABELS)
    assert query.constants == expected
    assert parse_query(query.text, LABELS).constants == expected


def test_a_comma_in_the_name_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "old, new.csv"
    path.write_text("image,years\na.png,7\nb/c.png,8\n")
    assert ask(f"age=@{path}:years, kind=cross") == {"age": [7, 8], "kind": [1, 1]}


@pytest.mark.parametrize("text", ["age", "age=", "=3", "age=3,", "age=3,,kind=disk", ",age=3", "age=,kind=disk", ""])
def test_what_is_no_list_of_values_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not of the form name=value"):
        parse_query(text, OWN)


def test_a_query_is_asked_once() -> None:
    with pytest.raises(InputError, match="do age=3.0: the same query is there twice"):
        parse_queries(["age=3", "age=4", "age=3.0"], OWN)
    assert [query.text for query in parse_queries(["age=3", "age=3.0000000001"], OWN)] == ["age=3", "age=3.0000000001"]
