"""Properties of the table of attributes."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm.data.attributes import read_attributes, write_attributes
from dscm.errors import InputError

IMAGES = ["a.png", "sub folder/é ü.jpg", "sub folder/数字.png"]


def make_attributes() -> dict[str, Tensor]:
    """Return one integer and one float column for `IMAGES`."""
    return {"digit": torch.tensor([7, 0, 3]), "thickness": torch.tensor([0.1, -1e-30, 3e38])}


def test_attributes_round_trip(tmp_path: Path) -> None:
    path, data = tmp_path / "attributes.csv", make_attributes()
    write_attributes(path, IMAGES, data)
    assert path.read_text(encoding="utf-8").startswith("image,digit,thickness\na.png,7,0.1")
    read = read_attributes(path, IMAGES, ["thickness", "digit"], integer=["digit", "unasked"])
    assert list(read) == ["thickness", "digit"]
    for name, values in read.items():
        assert values.dtype == data[name].dtype and torch.equal(values, data[name])
    backwards = read_attributes(path, IMAGES[::-1], ["digit"])
    assert torch.equal(backwards["digit"], torch.tensor([3.0, 0.0, 7.0]))
    before = path.read_bytes()
    write_attributes(path, IMAGES, data)
    assert path.read_bytes() == before


def test_awkward_names_round_trip(tmp_path: Path) -> None:
    images = ['comma, "quote".png', " space .png", "line\nbreak.png", os.fsdecode(b"latin-\xe9.png")]
    write_attributes(tmp_path / "a.csv", images, {"x": torch.arange(4)})
    assert read_attributes(tmp_path / "a.csv", images, ["x"])["x"].tolist() == [0, 1, 2, 3]


def test_write_refuses_unequal_lengths(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_attributes(tmp_path / "a.csv", IMAGES, {"x": torch.arange(2)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": no header in the first line"),
        ("digit,image\n", ": the first column must be 'image', not 'digit'"),
        ("image,digit,x\n", ": no column 'thickness'; the columns are image, digit, x"),
        ("image,digit,digit\n", ": a column's name occurs twice"),
        ("image,digit,thickness\na,1\n", ", line 2: 2 cells, the header has 3"),
        ("image,digit,thickness\na,1,2\n\nb,1,\n", ", line 4, column 'thickness': '' is not a finite number"),
        ("image,digit,thickness\na,1,2\nb,1,nan\n", ", line 3, column 'thickness': 'nan' is not a finite number"),
        ("image,digit,thickness\na,1,2\nb,1,Infinity\n", ", line 3, column 'thickness': 'Infinity' is not a finite"),
        ("image,digit,thickness\na,1,2\nb,1,1e39\n", ", line 3, column 'thickness': '1e39' is not a finite number"),
        ("image,digit,thickness\na,one,2\nb,1,2\n", ", line 2, column 'digit': 'one' is not a finite number"),
        ("image,digit,thickness\na,1.5,2\nb,1,2\n", ", line 2, column 'digit': '1.5' is not a whole number"),
        ("image,digit,thickness\na,1e30,2\nb,1,2\n", ", line 2, column 'digit': '1e30' is not a whole number"),
        ("image,digit,thickness\na,1,2\n", r": no row for 'b' \(1 of 2 images have none\)"),
        ("image,digit,thickness\na,1,2\nb,1,2\na,1,2\n", ", line 4: 'a' is already on line 2"),
        ("image,digit,thickness\na,1,2\nc,1,2\nb,1,2\nd,1,2\n", r", line 3: 'c' is not an image of .* \(2 such rows\)"),
    ],
)
def test_attributes_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "attributes.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=f"attributes.csv{message}"):
        read_attributes(path, ["a", "b"], ["digit", "thickness"], integer={"digit"})


def test_missing_attributes_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="attributes.csv: cannot be read: No such file"):
        read_attributes(tmp_path / "attributes.csv", [], [])
