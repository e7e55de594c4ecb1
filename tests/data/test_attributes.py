"""Properties of the table of attributes."""

import os
import unicodedata
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm.causal.variables import Variable
from dscm.data.attributes import read_attribute_table, read_attributes, write_attributes
from dscm.errors import InputError

IMAGES = ["a.png", "sub folder/é ü.jpg", "sub folder/数字.png"]
INF = float("inf")
THICKNESS = Variable("thickness", "continuous", (), -INF, INF)
DIGIT = Variable("digit", "categorical", (), 0, 9, labels=tuple(map(str, range(10))))
STRIPED = Variable("striped", "binary", (), 0, 1)
KIND = Variable("kind", "categorical", (), 0, 2, labels=("disk", "none", "größe"))
ALL = (DIGIT, THICKNESS)


def make_attributes() -> dict[str, Tensor]:
    """Return one integer and one float column for `IMAGES`."""
    return {"digit": torch.tensor([7, 0, 3]), "thickness": torch.tensor([0.1, -1e-30, 3e38])}


def read_all(folder: Path, text: str, *variables: Variable, **options: bool) -> dict[str, list[float]]:
    """Read a table of the images ``a`` and ``b``."""
    (folder / "attributes.csv").write_text(text)
    table = read_attribute_table(folder / "attributes.csv", ["a", "b"], variables or ALL, **options)
    return {"image": table.images, **{name: values.tolist() for name, values in table.values.items()}}


def test_attributes_round_trip(tmp_path: Path) -> None:
    path, data = tmp_path / "attributes.csv", make_attributes()
    write_attributes(path, IMAGES, data)
    assert path.read_text(encoding="utf-8").startswith("image,digit,thickness\na.png,7,0.1")
    table = read_attribute_table(path, IMAGES, (THICKNESS, DIGIT))
    assert list(table.values) == ["thickness", "digit"] and table.images == IMAGES and not table.notes
    for name, values in table.values.items():
        assert values.dtype == data[name].dtype and torch.equal(values, data[name])
    backwards = read_attribute_table(path, IMAGES[::-1], [DIGIT]).values
    assert torch.equal(backwards["digit"], torch.tensor([3, 0, 7]))
    before = path.read_bytes()
    write_attributes(path, IMAGES, data)
    assert path.read_bytes() == before


def test_awkward_names_round_trip(tmp_path: Path) -> None:
    images = ['comma, "quote".png', " space .png", "line\nbreak.png", os.fsdecode(b"latin-\xe9.png"), "./dot.png"]
    write_attributes(tmp_path / "a.csv", images, {"x": torch.arange(5)})
    assert read_attributes(tmp_path / "a.csv", images, {"x": THICKNESS}).values["x"].tolist() == [0, 1, 2, 3, 4]


def test_write_refuses_unequal_lengths(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_attributes(tmp_path / "a.csv", IMAGES, {"x": torch.arange(2)})
    assert not list(tmp_path.iterdir())


def test_a_table_may_hold_some_attributes(tmp_path: Path) -> None:
    """Where that is allowed; what looks like one of the others is pointed out."""
    text = "thicknes,image,Digit \n5,b,1\n6,a,2\n"
    assert read_all(tmp_path, text, partial=True) == {"image": ["a", "b"], "digit": [2, 1]}
    table = read_attribute_table(tmp_path / "attributes.csv", ["a", "b"], ALL, partial=True)
    assert table.notes == [f"{table.table.path}: column 'thicknes' is not used; is it 'thickness'?"]
    with pytest.raises(InputError, match="no column 'thickness'; the columns are .*; is it 'thicknes'\\?$"):
        read_all(tmp_path, text)


def test_what_does_not_match_is_left_out_on_request(tmp_path: Path) -> None:
    """Rows without an image, images without a row, and rows without a value: each is counted."""
    text = "image,digit,thickness,other\na,1,2,\nc,1,2,\nd,1,2,\n"
    assert read_all(tmp_path, text, skip_missing=True) == {"image": ["a"], "digit": [1], "thickness": [2.0]}
    table = read_attribute_table(tmp_path / "attributes.csv", ["a", "b"], ALL, skip_missing=True)
    assert [note.partition("csv: ")[2] for note in table.notes] == [
        "2 rows name no image of the folder: 'c', 'd'; left out",
        "1 images of the folder have no row: 'b'; left out",
    ]
    text = "image,digit,thickness\na,1,NA\nb,2,2\n"
    assert read_all(tmp_path, text, skip_missing=True) == {"image": ["b"], "digit": [2], "thickness": [2.0]}
    with pytest.raises(InputError, match="no image is left; .*: 2 rows name no image"):
        read_all(tmp_path, "image,digit,thickness\nc,1,2\nd,1,2\n", skip_missing=True)


def test_an_empty_word_may_be_a_label(tmp_path: Path) -> None:
    text = "image,kind\na,none\nb, Disk\n"
    for skip_missing in (False, True):
        assert read_all(tmp_path, text, KIND, skip_missing=skip_missing) == {"image": ["a", "b"], "kind": [1, 0]}
    with pytest.raises(InputError, match=r"line 3, column 'kind': 'null' is no value \(1 rows lack one\); fill it in"):
        read_all(tmp_path, text.replace(" Disk", "null"), KIND)


@pytest.mark.parametrize(
    "written", ["./s/größe.png", "s\\größe.png", " s/größe.png ", "s/größe.PNG", "{folder}/s/größe.png"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_name_as_others_write_it(tmp_path: Path, written: str, form: str, encoding: str) -> None:
    """Whichever way the file system has composed it, and in whichever encoding a spreadsheet saves."""
    image = unicodedata.normalize(form, "s/größe.png")
    (tmp_path / "t.csv").write_text(f"image,striped\n{written.format(folder=tmp_path)},1\n", encoding=encoding)
    assert read_attribute_table(tmp_path / "t.csv", [image], [STRIPED]).images == [image]


def test_an_exact_name_wins_and_two_that_are_alike_are_refused(tmp_path: Path) -> None:
    images, path = ["a.PNG", "a.png", "b.png"], tmp_path / "t.csv"
    path.write_text("image,striped\na.png,1\na.PNG,0\n./b.png,0\n")
    assert read_attribute_table(path, images, [STRIPED]).values["striped"].tolist() == [0, 1, 0]
    path.write_text("image,striped\n./a.png,1\na.PNG,0\nb.png,0\n")
    with pytest.raises(InputError, match="line 2: './a.png' may be 'a.PNG' or 'a.png'; write the name exactly"):
        read_attribute_table(path, images, [STRIPED])
    path.write_text("image,striped\na.png,1\na.PNG,0\nb.png,0\n./b.png,1\n")
    with pytest.raises(InputError, match="line 5: './b.png' is already on line 4"):
        read_attribute_table(path, images, [STRIPED])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": no header in the first line"),
        ("digit,picture\n", ": no column 'image'; the columns are digit, picture"),
        ("image,digit,x\n", ": no column 'thickness'; the columns are image, digit, x"),
        ("image,digit,digit\n", ": a column's name occurs twice"),
        ("image,digit,thickness\n", r": no row for 'a' \(2 of 2 images have none: 'a', 'b'\); add them, or leave them"),
        ("image,digit,thickness\na,1\n", ", line 2: 2 cells, the header has 3"),
        ("image,digit,thickness\na,1,2\n\nb,1,\n", ", line 4, column 'thickness': '' is no value"),
        ("image,digit,thickness\na,1,2\nb,1,nan\n", ", line 3, column 'thickness': 'nan' is no value .*skip_missing"),
        ("image,digit,thickness\na,1,2\nb,1,Infinity\n", ", line 3, column 'thickness': 'Infinity' is not a finite"),
        ("image,digit,thickness\na,1,2\nb,1,1e39\n", ", line 3, column 'thickness': '1e39' is not a finite number"),
        ("image,digit,thickness\na,one,2\nb,1,2\n", ", line 2, column 'digit': 'one'; allowed: 0, 1, 2"),
        ("image,digit,thickness\na,1.5,2\nb,1,2\n", ", line 2, column 'digit': '1.5'; allowed: 0, 1"),
        ("image,digit,thickness\na,1,2\n", r": no row for 'b' \(1 of 2 images have none: 'b'\)"),
        ("image,digit,thickness\na,1,2\nb,1,2\na,1,2\n", ", line 4: 'a' is already on line 2"),
        (
            "image,digit,thickness\na,1,2\nc,1,2\nb,1,2\nd,1,2\n",
            r", line 3: 'c' is not an image of the folder \(2 such rows: 'c', 'd'\); correct them, or leave",
        ),
    ],
)
def test_attributes_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"attributes.csv{message}"):
        read_all(tmp_path, text)


def test_a_value_outside_its_domain_is_refused_as_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="csv, line 3: x of b is 255.0004; allowed: 0 to 255"):
        read_all(tmp_path, "image,x\na,255\nb,255.0004\n", Variable("x", "bounded", (), 0, 255))


def test_missing_attributes_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="attributes.csv: cannot be read: No such file"):
        read_attributes(tmp_path / "attributes.csv", [], {})
