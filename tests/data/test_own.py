"""The user's own images: each split with its own rows, whatever the table lacks."""

from pathlib import Path

import pytest
from PIL import Image

from dscm.causal.graph_file import parse
from dscm.data.own import assign_split, load
from dscm.errors import EmptySplit, InputError

SPEC = {
    "variables": {
        "size": {"type": "continuous"},
        "striped": {"type": "binary"},
        "image": {"type": "image", "size": 8, "channels": 1, "parents": ["size", "striped"]},
    }
}
GRAPH = parse(SPEC, Path("own.json"))


def test_what_does_not_match_is_left_out_on_request(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The others keep their values, their split and their number among all images."""
    for i in range(6):
        Image.new("L", (8, 8), 40 * i).save(tmp_path / f"{i}.png")
    rows = ["./5.png;2,5;yes;Train", "1.png;1,5;no;train", "2.png;;no;train", "9.png;1;no;test", "4.PNG;3,5;YES;test "]
    (tmp_path / "attributes.csv").write_text("\n".join(["Image;Size;Striped;split", *rows]))
    with pytest.raises(InputError, match="line 5: '9.png' is not an image of the folder .* out with skip_missing"):
        load(tmp_path, GRAPH, "train", 8, tmp_path / "cache")
    data = load(tmp_path, GRAPH, "train", 8, tmp_path / "cache", skip_missing=True)
    assert data["index"].tolist() == [1, 5] and data["image"][:, 0, 0, 0].tolist() == [40, 200]
    assert data["size"].tolist() == [1.5, 2.5] and data["striped"].tolist() == [0, 1]
    notes = capsys.readouterr().err.splitlines()[:3]
    assert [note.partition("csv: ")[2] for note in notes] == [
        "1 rows name no image of the folder: '9.png'; left out",
        "2 images of the folder have no row: '0.png', '3.png'; left out",
        "1 rows have an empty cell: '2.png'; left out",
    ]
    assert load(tmp_path, GRAPH, "test", 8, tmp_path / "cache", skip_missing=True)["index"].tolist() == [4]


def test_a_hash_keeps_a_tenth_for_testing_and_a_tenth_of_the_rest_for_validation() -> None:
    """Those for testing are those of before there was a split for validation: by the same hash, below a tenth."""
    parts = [assign_split(f"{i}.png") for i in range(4000)]
    assert [parts.count(part) / 4000 for part in ("test", "valid", "train")] == pytest.approx(
        [0.1, 0.09, 0.81], abs=0.02
    )
    assert [i for i in range(40) if parts[i] == "test"] == [0, 6, 8, 33]
    assert [i for i in range(40) if parts[i] == "valid"] == [7, 14, 18, 34, 38]


def test_a_table_decides_over_the_hash_and_may_leave_a_split_out(tmp_path: Path) -> None:
    """Then there is nothing to validate on, which is said in a line, and no image is taken from another split."""
    for i in range(3):
        Image.new("L", (8, 8), 40 * i).save(tmp_path / f"{i}.png")
    rows = ["0.png,1,0,train", "1.png,2,1,valid", "2.png,3,0,test"]
    for marks, expected in ((rows, [1]), ([rows[0], rows[1].replace("valid", "train"), rows[2]], None)):
        (tmp_path / "attributes.csv").write_text("\n".join(["image,size,striped,split", *marks]))
        if expected:
            assert load(tmp_path, GRAPH, "valid", 8, tmp_path / "cache")["index"].tolist() == expected
        else:
            with pytest.raises(EmptySplit, match="attributes.csv, split 'valid': no images; a column 'split' may mark"):
                load(tmp_path, GRAPH, "valid", 8, tmp_path / "cache")
    assert len(load(tmp_path, GRAPH, "train", 8, tmp_path / "cache")["index"]) == 2


def test_a_column_says_which_images_show_the_same(tmp_path: Path) -> None:
    """A variable of that name comes before it."""
    for i in range(4):
        Image.new("L", (8, 8), 40 * i).save(tmp_path / f"{i}.png")
    rows = ["0.png,1,0,train,a", "1.png,2,1,train,b", "2.png,3,0,test,b", "3.png,4,1,train,a"]
    (tmp_path / "attributes.csv").write_text("\n".join(["image,size,striped,split,Group", *rows]))
    first, second, third = load(tmp_path, GRAPH, "train", 8, tmp_path / "cache")["group"].tolist()
    assert first == third != second
    renamed = {"size": {"type": "continuous"}, "group": SPEC["variables"]["striped"]}
    image = {**SPEC["variables"]["image"], "parents": ["size", "group"]}
    graph = parse({"variables": {**renamed, "image": image}}, Path("own.json"))
    (tmp_path / "attributes.csv").write_text("\n".join(["image,size,group", *(row[:9] for row in rows)]))
    assert load(tmp_path, graph, "train", 8, tmp_path / "cache")["group"].unique().tolist() == [0, 1]
