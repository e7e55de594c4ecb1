"""Morpho-MNIST folders: round trips, measured columns, and one clear error for each kind of damage."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm.data.morphomnist.folder import is_morpho_folder, read_split, write_split
from dscm.data.morphomnist.idx import write_idx
from dscm.errors import InputError

COUNT = 4


def make_data(channels: int = 1) -> dict[str, Tensor]:
    """Return a small split with values that have no short decimal form."""
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(256, (COUNT, channels, 28, 28), dtype=torch.uint8, generator=generator),
        "digit": torch.tensor([9, 0, 3, 3]),
        "thickness": torch.rand(COUNT, generator=generator) * 5,
        "slant": torch.tensor([-0.1, 1e-30, 3e38, 0.0]),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that holds one written split."""
    write_split(tmp_path, "train", make_data())
    return tmp_path


def edit_csv(folder: Path, old: str, new: str) -> None:
    """Replace a piece of the CSV file that must be there."""
    path = folder / "train-morpho.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("split", ["train", "t10k"])
def test_round_trip(tmp_path: Path, channels: int, split: str) -> None:
    data = make_data(channels)
    write_split(tmp_path / "new folder", split, data)
    read = read_split(tmp_path / "new folder", split, ["slant", "thickness"])
    assert list(read) == ["image", "digit", "slant", "thickness"]
    for name, values in read.items():
        assert values.dtype == data[name].dtype and torch.equal(values, data[name])


def test_same_data_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_split(tmp_path / name, "t10k", make_data())
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_plain_files_and_channels_last(tmp_path: Path) -> None:
    data = make_data(3)
    write_split(tmp_path, "train", data)
    write_idx(tmp_path / "train-images-idx3-ubyte", data["image"].permute(0, 2, 3, 1))
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    assert torch.equal(read_split(tmp_path, "train", [])["image"], data["image"])


def test_rows_are_placed_by_index(folder: Path) -> None:
    path = folder / "train-morpho.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\ufeff" + "\r\n".join([header, *(rows[i] for i in (2, 0, 3, 1)), ""]))
    assert torch.equal(read_split(folder, "train", ["thickness"])["thickness"], make_data()["thickness"])


def test_is_morpho_folder(folder: Path, tmp_path: Path) -> None:
    assert is_morpho_folder(folder)
    (folder / "train-morpho.csv").rename(folder / "t10k-morpho.csv")
    assert is_morpho_folder(str(folder))
    (folder / "t10k-morpho.csv").unlink()
    assert not is_morpho_folder(folder) and not is_morpho_folder(folder / "absent")


def test_missing_columns_are_measured_once(folder: Path) -> None:
    calls = []

    def measure(image: Tensor) -> dict[str, Tensor]:
        calls.append(image)
        return {"intensity": image.double().mean((1, 2, 3)), "hue": torch.ones(COUNT), "slant": torch.zeros(COUNT)}

    read = read_split(folder, "train", ["intensity", "slant", "hue"], measure)
    assert list(read) == ["image", "digit", "intensity", "slant", "hue"]
    assert torch.equal(read["slant"], make_data()["slant"])  # the file's own column wins
    assert read["intensity"].dtype == torch.float32
    assert torch.equal(read["intensity"], make_data()["image"].double().mean((1, 2, 3)).float())
    assert len(calls) == 1 and torch.equal(calls[0], make_data()["image"])
    read_split(folder, "train", ["slant"], measure)
    assert len(calls) == 1


def test_missing_column_without_a_measure(folder: Path) -> None:
    message = "train-morpho.csv: no column 'hue'; the columns are index, thickness, slant"
    with pytest.raises(InputError, match=message):
        read_split(folder, "train", ["thickness", "hue"])
    with pytest.raises(InputError, match=message):
        read_split(folder, "train", ["hue"], lambda image: {"intensity": torch.zeros(COUNT)})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n1,", "\n0,", "line 3: index 0 is already on line 2"),
        ("\n3,", "\n4,", "line 5: index 4; allowed: 0 to 3"),
        ("\n3,", "\n-1,", "line 5: index -1; allowed: 0 to 3"),
        ("\n3,", "\n2.5,", "line 5, column 'index': '2.5' is not a whole number"),
        ("\n3,", "\n,", "line 5, column 'index': '' is not a finite number"),
        ("index,", "number,", "no column 'index'; the columns are number, thickness, slant"),
        ("index,thickness", "index,slant", "a column's name occurs twice in the header"),
        (",0.0\n", ",wide\n", "line 5, column 'slant': 'wide' is not a finite number"),
        (",0.0\n", ",nan\n", "line 5, column 'slant': 'nan' is not a finite number"),
        (",0.0\n", ",-inf\n", "line 5, column 'slant': '-inf' is not a finite number"),
        (",0.0\n", ",1e39\n", "line 5, column 'slant': '1e39' is not a finite number"),
        (",0.0\n", ",0.0,1\n", "line 5: 4 cells, the header has 3"),
        (",0.0\n", ',"0.0\n', "line 5: not CSV"),
        (",0.0\n", ",0.0\n4,1,1\n", ": 5 rows for 4 images"),
    ],
)
def test_damaged_csv(folder: Path, old: str, new: str, message: str) -> None:
    edit_csv(folder, old, new)
    with pytest.raises(InputError, match=f"train-morpho.csv.*{message}"):
        read_split(folder, "train", ["thickness", "slant"])


def test_a_damaged_column_that_nobody_asked_for_is_ignored(folder: Path) -> None:
    edit_csv(folder, ",0.0\n", ",nan\n")
    assert list(read_split(folder, "train", ["thickness"])) == ["image", "digit", "thickness"]


def test_missing_and_empty_csv(folder: Path) -> None:
    path = folder / "train-morpho.csv"
    path.write_text("")
    with pytest.raises(InputError, match="train-morpho.csv: no header"):
        read_split(folder, "train", [])
    path.unlink()
    with pytest.raises(InputError, match="train-morpho.csv: cannot be read: No such file"):
        read_split(folder, "train", [])
    with pytest.raises(InputError, match="looked for t10k-images-idx3-ubyte and t10k-images-idx3-ubyte.gz"):
        read_split(folder, "t10k", [])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3], "train-labels-idx1-ubyte.gz: 3 labels for 4 images"),
        ([[1, 2, 3, 4]], "1 x 4 labels for 4 images"),
        ([1, 2, 3, 10], "label 10; allowed: 0 to 9"),
    ],
)
def test_wrong_labels(folder: Path, labels: list, message: str) -> None:
    write_idx(folder / "train-labels-idx1-ubyte.gz", torch.tensor(labels, dtype=torch.uint8))
    with pytest.raises(InputError, match=message):
        read_split(folder, "train", [])


@pytest.mark.parametrize("shape", [(4, 784), (4, 32, 32), (4, 2, 28, 28)])
def test_wrong_image_shape(folder: Path, shape: tuple[int, ...]) -> None:
    write_idx(folder / "train-images-idx3-ubyte.gz", torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(InputError, match="images-idx3-ubyte.gz: the shape is 4 x .*allowed: N x 28 x 28, N x 3 x"):
        read_split(folder, "train", [])
