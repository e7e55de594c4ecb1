"""Every form of a query, and effects along some paths only, against values worked out by hand."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import FAST, copy_digits

from dscm.errors import InputError
from dscm.causal.graph_file import get_graph, parse
from dscm.causal.mechanisms import LinearGaussian
from dscm.folder.queries import parse_query
from dscm.causal.scm import SCM

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


def ask(text: str, folder: Path = Path("pictures")) -> dict[str, list[float]]:
    """Resolve a query about the observation."""
    query = parse_query(text, OWN, folder, NAMES, lambda image, name: OBS[name][NAMES.index(image)].item())
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
        query = parse_query(text, graph, Path(), NAMES, lambda image, name: 0.0)
        assert query.resolve(obs, NAMES)["stage"].tolist() == [2, 2]
    with pytest.raises(InputError, match="stage must be 1, 2, 3"):
        parse_query("stage=0", graph, Path(), NAMES, lambda image, name: 0.0)


def test_a_bound_is_inside() -> None:
    """Also one that float32 rounds outwards."""
    query = parse_query("slant=1.2", DIGITS, Path(), NAMES, lambda image, name: 0.0)
    assert query.resolve({"slant": torch.zeros(2)}, NAMES)["slant"].tolist() == pytest.approx([1.2, 1.2])


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
        ("age=0", "--do age=0: age must be more than 0"),
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


def linear_model() -> SCM:
    """a → m → y with weights 2 and 3, and a → y with weight 5; b → y alone."""
    return SCM(
        {
            "a": LinearGaussian({}, 0.0, 1.0),
            "b": LinearGaussian({}, 0.0, 1.0),
            "m": LinearGaussian({"a": 2.0}, 1.0, 0.5),
            "y": LinearGaussian({"a": 5.0, "m": 3.0, "b": 7.0}, -1.0, 2.0),
            "after": LinearGaussian({"y": 1.0}, 0.0, 1.0),
        },
        {"m": ["a"], "y": ["a", "m", "b"], "after": ["y"]},
    )


@pytest.mark.parametrize(("kind", "effect"), [("total", 5 + 2 * 3), ("direct", 5), ("indirect", 2 * 3)])
def test_effects_by_hand(kind: str, effect: float) -> None:
    """Of do(a = a + 1.5) on y; each relative to the composition, to which it is linear."""
    scm, obs = linear_model(), {}
    for i, name in enumerate(scm.order):
        obs[name] = torch.randn(7, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    noise = scm.abduct(obs)
    changed = scm.predict(noise, scm.along(obs, noise, {"a": obs["a"] + 1.5}, kind, "y"))
    torch.testing.assert_close(changed["y"] - obs["y"], torch.full_like(obs["y"], 1.5 * effect), atol=1e-6, rtol=0)
    mediator = obs["m"] + (0 if kind == "direct" else 3.0)
    torch.testing.assert_close(changed["m"], mediator, atol=1e-6, rtol=0)
    torch.testing.assert_close(changed["a"], obs["a"] + (0 if kind == "indirect" else 1.5), atol=1e-6, rtol=0)


def test_what_is_not_upstream_has_no_effect() -> None:
    scm = linear_model()
    obs = {name: torch.zeros(2) for name in scm.order}
    with pytest.raises(InputError, match="after: not upstream of y; upstream are a, b, m"):
        scm.along(obs, scm.abduct(obs), {"after": 1.0}, "total", "y")
    assert scm.descendants(["a"]) == {"m", "y", "after"} and scm.descendants(["a", "m"]) == {"y", "after"}


def test_effects_from_the_command_line(call_script: Callable, tmp_path: Path) -> None:
    """Thickness acts on the image itself and through intensity; the table says which of them each picture was given."""
    folder = copy_digits(tmp_path / "digits", ["0.png", "1.png"])
    effects = ("--effect", "total", "direct", "indirect")
    asked = ("--do", "thickness=+1", "--guidance", 1, "--out", tmp_path / "out", *effects)
    done = call_script("counterfactual.py", folder, *asked, *FAST)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "counterfactuals.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] == "0.png"]
    total, direct, indirect = rows
    assert [row["query"] for row in rows] == ["thickness=+1", "thickness=+1__direct", "thickness=+1__indirect"]
    thickness, intensity = (float(total[name]) for name in ("thickness", "intensity"))
    assert float(total["counterfactual_thickness"]) == pytest.approx(thickness + 1, abs=1e-3)
    assert float(total["counterfactual_intensity"]) > intensity
    assert direct["counterfactual_thickness"] == total["counterfactual_thickness"]
    assert float(direct["counterfactual_intensity"]) == pytest.approx(intensity, abs=1e-2)
    assert float(indirect["counterfactual_thickness"]) == pytest.approx(thickness, abs=1e-3)
    assert indirect["counterfactual_intensity"] == total["counterfactual_intensity"]
    assert (tmp_path / "out" / "0__thickness=+1__direct.png").exists()


def test_samples_are_a_folder_to_ask_about(call_script: Callable, refuse: Callable[..., str], tmp_path: Path) -> None:
    """Drawn under do, they have what was set, and what follows from it; and they can be asked about in turn."""
    drawn = ("--sample", 5, "--do", "digit=3,thickness=4", "--batch", 2, "--guidance", 1, *FAST)
    done = call_script("counterfactual.py", *drawn, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert call_script("counterfactual.py", *drawn, "--out", tmp_path / "b").returncode == 0
    images = tmp_path / "a" / "images"
    with open(images / "attributes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["digit"], row["thickness"]) for row in rows] == [("3", "4")] * 5
    assert all(float(row["intensity"]) > 200 for row in rows)
    for path in images.iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "images" / path.name).read_bytes(), "same seed, same bytes"
    asked = ("--do", "digit=4", "--guidance", 1, *FAST)
    assert call_script("counterfactual.py", images, *asked, "--out", tmp_path / "answers").returncode == 0
    for do, message in (("thickness=+1", "nothing is observed"), ("digit=12", "digit must be a whole number")):
        assert message in refuse("counterfactual.py", "--sample", 2, "--do", do, "--out", tmp_path / "c", *FAST)
    assert "takes no images" in refuse("counterfactual.py", images, "--sample", 2, "--out", tmp_path / "c", *FAST)
    assert "nothing is asked" in refuse("counterfactual.py", images, "--out", tmp_path / "c", *FAST)
