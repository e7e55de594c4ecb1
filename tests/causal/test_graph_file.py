"""Graph files: what they may hold, one line that names file, line and field for everything else, and built-in names."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm.errors import InputError
from dscm.graphs import get_graph, read_graph
from tests.support import shapes

SPEC = {
    "name": "clinic",
    "measured": [],
    "interventions": [["age"], ["scanner", "marked"]],
    "variables": {
        "age": {"type": "positive", "range": [0, 120], "unit": "years"},
        "volume": {"type": "bounded", "range": [0, 1], "parents": ["age"]},
        "score": {
            "type": "continuous",
            "parents": ["age"],
            "equation": {"linear-gaussian": {"weights": {"age": 0.5}, "bias": 1, "scale": 2}},
        },
        "scanner": {"type": "categorical", "values": ["A", "B", "C"]},
        "marked": {"type": "binary", "parents": ["scanner"]},
        "image": {"type": "image", "size": 64, "channels": 1, "parents": ["age", "volume", "scanner", "marked"]},
    },
}


SIGMOID = {"low": 0, "high": 1e6, "weights": {"age": 1}, "bias": 0, "scale": 1}


def write(path: Path, change: Callable[[dict[str, Any]], object] = lambda spec: None) -> Path:
    spec = copy.deepcopy(SPEC)
    change(spec)
    path.write_text(json.dumps(spec, indent=1))
    return path


def test_everything_a_file_may_hold(tmp_path: Path) -> None:
    graph = read_graph(write(tmp_path / "graph.json"))
    age, volume, score, scanner, marked = graph.attributes
    assert (graph.name, graph.data_set, graph.image_size, graph.image_channels) == ("clinic", "folder", 64, 1)
    assert graph.interventions == {"age": ("age",), "scanner": ("scanner", "marked")}
    assert (age.kind, age.domain) == ("positive", "0 to 120 years") and volume.parents == ("age",)
    assert scanner.labels == ("A", "B", "C") and scanner.classes == 3 and scanner.domain == "A, B, C"
    assert [variable.name for variable in graph.learned] == ["age", "volume", "scanner", "marked"]
    assert score.mechanism().predict(torch.zeros(1), {"age": torch.ones(1)}).item() == 1.5
    assert marked.domain == "0 or 1" and score.domain == "any finite number"
    again = get_graph(graph.key)
    assert again.key == graph.key and again.interventions == graph.interventions, "a checkpoint carries all of it"


def test_a_shadow_takes_its_parents_in_their_order(tmp_path: Path) -> None:
    """The angle of the pendulum, then that of the light; without a scale it has no noise."""

    def cast(spec: dict[str, Any]) -> None:
        spec["variables"]["score"].update(parents=["volume", "age"], equation={"shadow-length": {}})

    score = read_graph(write(tmp_path / "graph.json", cast)).variable("score").mechanism()
    value = score.predict(torch.zeros(1), {"volume": torch.tensor([0.0]), "age": torch.tensor([45.0])})
    torch.testing.assert_close(value, torch.tensor([9.5]))


@pytest.mark.parametrize("name", ["morphomnist", "embed"])
def test_built_in_graphs_are_known_by_name(name: str) -> None:
    assert get_graph(name).key == name


def test_shapes(tmp_path: Path) -> None:
    (tmp_path / "shapes.json").write_text(json.dumps(shapes.GRAPH))
    assert read_graph(tmp_path / "shapes.json").image_parents == ("size", "warmth", "kind", "striped")


def set_field(name: str, **fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda spec: spec["variables"][name].update(fields)


def add(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda spec: spec["variables"].update({name: {"type": "binary"}})


def test_names_of_no_other_meaning_are_free(tmp_path: Path) -> None:
    """Also those of tensors that data sets of one's own do not have."""
    names = ("base", "index", "loss", "z", "seconds", "counterfactual_x", "image_size", "größe")
    for name in names:
        assert name in [variable.name for variable in read_graph(write(tmp_path / "graph.json", add(name))).variables]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.pop("variables"), "variables: must be an object that holds a variable by each name"),
        (lambda spec: spec.update(color=1), "line [0-9]+, color: unknown field; known: variables, name"),
        (set_field("age", type="real"), "line [0-9]+, age: must be an object with a type, one of continuous, pos"),
        (set_field("age", parents=["height"]), "variable 'age' has parent 'height', which is not one of"),
        (set_field("age", parents=["volume"]), "cycle: "),
        (set_field("age", parents="volume"), "age: parents must be a list of names"),
        (set_field("volume", parents=["age", "age"]), "volume: parents names a variable twice"),
        (set_field("age", rang=[0, 1]), "age: type positive has no field 'rang'; try range"),
        (set_field("age", range=[1]), "age: range must be two numbers, the lower first"),
        (set_field("age", range=[5, 1]), "age: range must be two numbers, the lower first"),
        (set_field("age", range=[1e10, 1e10 + 1]), "age: range must be two numbers, the lower first, that differ"),
        (set_field("volume", range=[0, 1e39]), "volume: range must be two numbers"),
        (set_field("age", range=[-5, 1]), "the range of a positive variable must not begin below 0"),
        (lambda spec: spec["variables"]["volume"].pop("range"), "volume: type bounded needs the field 'range'"),
        (set_field("scanner", values=["A", "A"]), "values must be a list of at least two different ones"),
        (set_field("scanner", values="AB"), "values must be a list of at least two different ones"),
        (set_field("image", size=4), "image: size must be a whole number of at least 8 pixels, and channels 1 or 3"),
        (set_field("image", channels=2), "channels 1 or 3"),
        (set_field("image", channels=1.0), "channels 1 or 3"),
        (set_field("image", channels=True), "channels 1 or 3"),
        (set_field("age", type=["bounded"]), "age: must be an object with a type"),
        (set_field("age", type={}), "age: must be an object with a type"),
        (set_field("age", unit=["years"]), "age: unit must be text"),
        (set_field("scanner", values=["A", None]), "scanner: values must be a list"),
        (lambda spec: spec.update(interventions=[["age", "age"]]), "interventions: a name is twice"),
        (lambda spec: spec.update(interventions=[["age"], ["age", "volume"]]), "two lists begin with the same"),
        (lambda spec: spec["variables"].pop("image"), "there must be one variable of type image, called 'image'"),
        (set_field("age", parents=["image"]), "cycle"),
        (set_field("score", equation={"cubic": {}}), "equation must be an object with one of gamma, interval, linear"),
        (set_field("score", equation={"linear-gaussian": {"bias": 1}}), "missing a required argument: 'weights'"),
        (
            set_field("score", equation={"linear-gaussian": {"weights": {"volume": 1}, "bias": 0, "scale": 1}}),
            "score: equation 'linear-gaussian' must weigh exactly the parents: age",
        ),
        (
            set_field("score", equation={"linear-gaussian": {"weights": {"age": "2"}, "bias": 0, "scale": 1}}),
            "score: equation 'linear-gaussian': age must be a finite number",
        ),
        (
            set_field("score", equation={"linear-gaussian": {"weights": {"age": 2}, "bias": 10**400, "scale": 1}}),
            "score: equation 'linear-gaussian': bias must be a finite number",
        ),
        (
            set_field("volume", equation={"scaled-sigmoid": SIGMOID}),
            "volume: equation 'scaled-sigmoid': low and high must lie in the range",
        ),
        (
            set_field("score", equation={"linear-gaussian": {"weights": {"age": 2}, "bias": 0, "scale": 0}}),
            "score: equation 'linear-gaussian': scale must be more than 0",
        ),
        (
            set_field("age", equation={"gamma": {"shift": 0, "shape": 2.5, "rate": 1}}),
            "age: equation 'gamma': shape must be a whole number",
        ),
        (
            set_field("age", equation={"interval": {"low": 3, "high": 3}}),
            "equation 'interval': low must be less than high",
        ),
        (set_field("score", equation={"interval": {"low": 3, "high": 4}}), "'interval' must weigh exactly the parents"),
        (set_field("score", equation={"shadow-length": {}}), "equation 'shadow-length' needs two parents"),
        (
            set_field("score", parents=["age", "volume"], equation={"shadow-position": {"scale": -1}}),
            "equation 'shadow-position': scale must be at least 0",
        ),
        (set_field("scanner", equation={"gamma": {}}), "equation 'gamma' does not suit type categorical"),
        (lambda spec: spec.update(interventions=[["weight"]]), "'weight' is not a parent of the image"),
        (lambda spec: spec.update(interventions=[["age"], []]), "interventions: a list of names is empty"),
        (lambda spec: spec.update(interventions=["age"]), "interventions: must be a list of lists of names"),
        (lambda spec: spec.update(measured="age"), "measured: must be a list of names"),
        (lambda spec: spec.update(data="cats"), "data: must be one of folder, morphomnist"),
        (lambda spec: spec.update(name=5), "name: must be text"),
        (lambda spec: spec["variables"].update(type={"type": "binary"}), "type: no name for a variable"),
        (lambda spec: spec["variables"].update({"a.b": {"type": "binary"}}), "a.b: no name for a variable"),
        (set_field("age", range=5), "age: range must be two numbers"),
        *((add(name), f"{name}: no name for a variable: it is ") for name in ("query", "l1", "split", "do", "others")),
        (add("counterfactual_age"), "counterfactual_age: no name beside age, which has a column counterfactual_age"),
        (add("measured_age"), "measured_age: no name beside age"),
        *((add(name), "no name for a variable: choose one without") for name in ("", " a", "a ", "a\nb")),
        (
            lambda spec: spec["variables"].update(index={"type": "binary"}) or spec.update(data="embed"),
            "index: no name",
        ),
        (
            set_field("score", equation={"linear-gaussian": {"weights": 5, "bias": 0, "scale": 1}}),
            "must weigh exactly the parents: age",
        ),
        (lambda spec: spec.update(measured=["weight"]), "'weight' is not a parent of the image"),
    ],
)
def test_refused(tmp_path: Path, change: Callable, message: str) -> None:
    with pytest.raises(InputError, match=rf"graph.json.*{message}"):
        read_graph(write(tmp_path / "graph.json", change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"name": "\\ud800", "variables": {}}', "surrogates not allowed"),
        ('{"variables": {}} x', "line 1: not JSON"),
    ],
)
def test_json_of_any_kind(tmp_path: Path, text: str, message: str) -> None:
    """What the reader of JSON cannot hold is refused like what is none."""
    path = tmp_path / "graph.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"graph.json.*{message}"):
        read_graph(path)


def test_a_mark_of_utf8_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Windows writes one."""
    path = write(tmp_path / "graph.json")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_graph(path).spec == SPEC


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "graph.json")
    with pytest.raises(InputError, match="graph.json: is not a file"):
        read_graph(tmp_path / "graph.json")


def test_the_image_has_no_children(tmp_path: Path) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["variables"]["after"] = {"type": "binary", "parents": ["image"]}

    with pytest.raises(InputError, match="after: the image can have no children"):
        read_graph(write(tmp_path / "graph.json", change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"variables": {,}}', "graph.json, line 1: not JSON: "),
        ('{"name": "a",\n"name": "b"}', "graph.json: 'name' is there twice"),
        ("[]", "variables: must be an object"),
    ],
)
def test_no_graph_at_all(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "graph.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_graph(tmp_path / "graph.json")
    with pytest.raises(InputError, match="absent.json: cannot be read: No such file"):
        read_graph(tmp_path / "absent.json")


def test_an_unknown_graph_is_named() -> None:
    known = (
        "celeba, celebahq, colour-morphomnist, embed, morphomnist, morphomnist-digit, morphomnist-intensity, pendulum"
    )
    with pytest.raises(InputError) as error:
        get_graph("mnist")
    assert str(error.value) == f"unknown graph 'mnist'; known: {known}"


def test_other_attributes_of_faces() -> None:
    """Any of the forty; smiling opens the mouth where both are there, and both are then set together."""
    graph = get_graph("celebahq:Young,Mouth_Slightly_Open,Smiling")
    parents = {variable.name: variable.parents for variable in graph.attributes}
    assert parents == {"Young": (), "Mouth_Slightly_Open": ("Smiling",), "Smiling": ()}
    assert graph.image_parents == tuple(parents) and graph.image_channels == 3 and graph.data_set == "celebahq"
    assert graph.interventions == {"Young": ("Young",), "Smiling": ("Smiling", "Mouth_Slightly_Open")}
    assert not get_graph("celebahq:Mouth_Slightly_Open").learned


def test_faces_of_either_set_share_their_edges_as_far_as_they_were_published() -> None:
    """Where both ends of an edge are chosen, the effect is learned; all others are roots. CelebA-HQ stays as it was."""
    parents = {
        key: {variable.name: variable.parents for variable in get_graph(key).attributes}
        for key in ("celeba", "celeba:Bald,Young,Male", "celeba:Bald,Wearing_Lipstick", "celebahq:Bald,Male")
    }
    edges = {"Mouth_Slightly_Open": ("Smiling",), "Bald": ("Male",), "Wearing_Lipstick": ("Male",)}
    names = get_graph("celebahq").image_parents
    assert parents["celeba"] == {name: edges.get(name, ()) for name in names}
    assert parents["celeba:Bald,Young,Male"] == {"Bald": ("Male",), "Young": (), "Male": ()}
    assert not any(parents["celeba:Bald,Wearing_Lipstick"].values()) and not any(parents["celebahq:Bald,Male"].values())
    graph = get_graph("celeba:Eyeglasses,Mouth_Slightly_Open,Male,Smiling")
    expected = {"Eyeglasses": ("Eyeglasses",), "Male": ("Male",), "Smiling": ("Smiling", "Mouth_Slightly_Open")}
    assert graph.interventions == expected and graph.data_set == "celeba"
    assert [variable.name for variable in get_graph("celebahq").learned] == ["Mouth_Slightly_Open"]
    assert all(get_graph(key).key == key for key in parents), "as checkpoints hold them"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("celebahq:Smilling", "no attribute 'Smilling'; try Smiling"),
        ("celebahq:", "no attribute ''; try 5_o_Clock_Shadow"),
        ("celebahq:Young,Young", "Young is named twice"),
        ("embed:density", "only celeba and celebahq take a list of attributes"),
    ],
)
def test_wrong_lists_of_attributes(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_graph(name)
