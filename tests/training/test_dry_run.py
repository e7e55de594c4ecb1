"""A dry run reads everything, says what is wrong, and trains nothing."""

import re
from pathlib import Path

import torch

from dscm.errors import spell
from dscm.graphs import get_graph
from dscm.training.dry_run import find_dependent, find_scarce
from tests.support import shapes
from tests.support.scripts import call_script


def test_check_reads_everything_and_trains_nothing(shapes_folder: Path, tmp_path: Path) -> None:
    graph = ("--data", "folder", "--graph", shapes_folder / "graph.json")
    done = call_script(
        "train.py", "--check", *graph, "--run", tmp_path / "run", "--batch", 4, *shapes.arguments(shapes_folder)
    )
    assert done.returncode == 0, done.stderr
    for split in ("train", "valid", "test"):
        assert re.search(rf"^{split}: \d+ images of 3×32×32$", done.stdout, re.M)
    assert re.search(r"^kind \(categorical\): train disk .*%, square .*%, cross .*%; test ", done.stdout, re.M)
    assert re.search(
        r"^training: .* s a step, about .* hours for 30000 steps; .* GiB of memory on cpu$", done.stdout, re.M
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["graph.png"]


def test_attributes_too_rare_to_learn_are_named() -> None:
    """Binary parents below a tenth of what is drawn; balancing says what it does, and what it cannot."""
    graph, n = get_graph("celeba:Eyeglasses,Bald,Smiling"), 1000
    shares = {"Eyeglasses": 70, "Bald": 5, "Smiling": 480}
    data = {name: (torch.arange(n) < count).long() for name, count in shares.items()}
    data["Bald"] = data["Bald"].flip(0)  # of other people than wear glasses
    plain = [spell(line) for line in find_scarce(graph, data)]
    assert [line.partition(" of")[0] for line in plain] == ["rare: Eyeglasses is 1 in 7.0%", "rare: Bald is 1 in 0.5%"]
    assert plain[0].endswith("too few to learn it soon, below 10%; balance=Eyeglasses draws them more often")
    one, *rest = [spell(line) for line in find_scarce(graph, data, ("Bald",))]
    assert one.startswith("rare: Eyeglasses is 1 in ") and one.endswith("draws them more often")
    assert rest == [
        "balance: Bald is 1 in 4.8% of the images drawn, of 0.5% in the data",
        "rare: Bald is 1 in 4.8% of the images drawn, too few to learn it soon, below 10%",
    ]
    assert len([*find_scarce(graph, {name: value.flip(0) * 0 for name, value in data.items()})]) == 0, "constant"
    assert not [*find_scarce(get_graph("morphomnist"), {name: torch.zeros(5) for name in ("thickness", "digit")})]


def test_classes_that_go_with_what_an_intervention_sets_are_named() -> None:
    """Glasses are on 8 of 10 men and on 1 of 10 others; hats on every second of either."""
    graph = get_graph("celeba:Eyeglasses,Male,Wearing_Hat")
    i = torch.arange(20)
    data = {"Male": (i < 10).long(), "Eyeglasses": ((i < 8) | (i == 19)).long(), "Wearing_Hat": i % 2}
    (line,) = map(spell, find_dependent(graph, data))
    assert line.startswith("dependent: Male is 1 in 89% of the images where Eyeglasses is 1, in 18% of the others; ")
    assert "independent=on" in line
    turned = get_graph("celeba:Male,Eyeglasses,Wearing_Hat")
    assert [spell(found) for found in find_dependent(turned, data)] == [line], "in whatever order they are declared"
    assert not [*find_dependent(graph, data | {"Male": (i // 2) % 2})]
    assert not [*find_dependent(graph, data | {"Eyeglasses": 0 * i})], "constant: said elsewhere"
    assert not [*find_dependent(get_graph("morphomnist"), {"thickness": torch.rand(5), "digit": i[:5]})]


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    shapes.write_set(tmp_path / "images", 40)
    table = tmp_path / "images" / "attributes.csv"
    graph = ("--data", "folder", "--graph", tmp_path / "graph.json", "--run", tmp_path / "run")
    text = table.read_text()
    table.write_text(re.sub(r",[01]\n", ",1\n", text.replace("\r\n", "\n")))
    done = call_script("train.py", "--check", *graph, "--batch", 4, *shapes.arguments(tmp_path))
    assert done.returncode == 0 and "wrong: striped is constant in the train split: 1\n" in done.stdout
    lines = table.read_text().splitlines()
    marks = ["split", *(("train", "test")[i % 2] for i in range(40))]
    table.write_text("\n".join(f"{line},{mark}" for line, mark in zip(lines, marks)))
    done = call_script("train.py", "--check", *graph, "--batch", 4, *shapes.arguments(tmp_path))
    assert done.returncode == 0 and "valid: no images to choose settings on\n" in done.stdout
    table.write_text(text.replace("cross", "star"))
    done = call_script("train.py", "--check", *graph, *shapes.arguments(tmp_path))
    assert done.returncode == 2
    assert re.search(r"attributes.csv, line \d+, column 'kind': 'star'; allowed: disk, square, cross$", done.stderr)
