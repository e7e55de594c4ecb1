"""CelebA-HQ: the published layout read exactly, and one clear error for each way it can be wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dscm.data.celeba_tables import PARTITION
from dscm.data.celebahq import ANNOTATION, FOLDER, IMAGES, MAPPING, load
from dscm.errors import InputError
from dscm.graphs import GRAPHS

DEFAULT = GRAPHS["celebahq"].image_parents
KNOWN = [f"Other_{index}" for index in range(33)] + list(DEFAULT)
PARTS = [0, 2, 0, 1, 0, 0, 2, 0, 1, 0, 0, 2]  # of the 12 images
NAMES = {"partition": PARTITION, "mapping": f"{FOLDER}/{MAPPING}", "annotation": f"{FOLDER}/{ANNOTATION}"}


def smiles(index: int) -> int:
    """Tell whether a face smiles: every third does."""
    return int(index % 3 == 0)


def make_set(folder: Path) -> Path:
    """Write 12 faces in the published layout; face i is grey level 20 i, and its original is number 100 - i."""
    hq = folder / FOLDER
    (hq / IMAGES).mkdir(parents=True)
    partition, mapping, rows = [], ["idx     orig_idx    orig_file"], []
    for index, part in enumerate(PARTS):
        Image.fromarray(np.full((16, 16, 3), 20 * index, np.uint8)).save(hq / IMAGES / f"{index}.jpg")
        partition.append(f"{100 - index:06}.jpg {part}")
        mapping.append(f"{index}       {99 - index}      {100 - index:06}.jpg")
        values = [2 * smiles(index) - 1 if name == "Smiling" else (-1) ** index for name in KNOWN]
        rows.append(f"{index}.jpg  {' '.join(map(str, values))}")
    (folder / PARTITION).write_text("\n".join(reversed(partition)) + "\n")
    (hq / MAPPING).write_text("\n".join(mapping) + "\n")
    (hq / ANNOTATION).write_text("\n".join(["12", " ".join(KNOWN) + " ", *rows]) + "\n")
    return folder


def load_some(
    folder: Path, split: str = "train", names: tuple[str, ...] = ("Male", "Smiling"), **options: bool
) -> dict:
    """Load the set in ``folder`` with ``folder / cache`` as the cache."""
    return load(folder, split, names, 8, folder / "cache", **options)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file, which must have it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("split", "part"), [("train", 0), ("valid", 1), ("test", 2)])
def test_each_split_has_its_images_and_attributes(tmp_path: Path, split: str, part: int) -> None:
    """By way of the mapping: an image's own number says nothing of its part."""
    data = load_some(make_set(tmp_path), split)
    own = torch.tensor([index for index, other in enumerate(PARTS) if other == part])
    assert list(data) == ["image", "index", "Male", "Smiling"]
    assert torch.equal(data["index"], own)
    assert data["image"].dtype == torch.uint8 and data["image"].shape == (len(own), 3, 8, 8)
    assert (data["image"].int() - 20 * own[:, None, None, None]).abs().max() <= 2
    assert data["Smiling"].tolist() == [smiles(index) for index in own.tolist()]
    assert data["Male"].dtype == torch.int64 and torch.equal(data["Male"], 1 - own % 2)


def test_default_names_and_none(tmp_path: Path) -> None:
    make_set(tmp_path)
    assert list(load_some(tmp_path, names=DEFAULT)) == ["image", "index", *DEFAULT]
    assert list(load_some(tmp_path, names=())) == ["image", "index"]


@pytest.mark.parametrize("inside", [False, True])
def test_the_folder_may_be_either_and_the_partition_in_it_or_beside(
    tmp_path: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path)
    if inside:
        (tmp_path / PARTITION).rename(tmp_path / FOLDER / PARTITION)
    data = load_some(tmp_path)
    monkeypatch.chdir(tmp_path / FOLDER)
    for folder in (tmp_path / FOLDER, str(tmp_path / FOLDER), "."):
        other = load(folder, "train", ["Male", "Smiling"], 8, tmp_path / "cache")
        assert all(torch.equal(other[name], values) for name, values in data.items())
    assert len(list((tmp_path / "cache").iterdir())) == 1  # wherever the set lies, it is the same


def test_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second load opens no image and leaves the file as it is; other attributes need no other file."""
    load_some(make_set(tmp_path))
    (file,) = (tmp_path / "cache").iterdir()
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(Image, "open", None)
    load_some(tmp_path, names=DEFAULT)
    assert [path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()] == [before]


@pytest.mark.parametrize("name", [*NAMES.values(), f"{FOLDER}/{IMAGES}"])
def test_an_incomplete_layout_says_what_is_expected(tmp_path: Path, name: str) -> None:
    (make_set(tmp_path) / name).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{name}: no such file or folder; expected are {PARTITION}, {FOLDER}/"):
        load_some(tmp_path)


def test_tables_as_copies_have_them(tmp_path: Path) -> None:
    """With commas and headers, and with .csv for .txt."""
    expected = load_some(make_set(tmp_path))
    hq = tmp_path / FOLDER
    partition = ["image_id,partition", *(tmp_path / PARTITION).read_text().replace(" ", ",").splitlines()]
    (tmp_path / PARTITION).unlink()
    (tmp_path / PARTITION).with_suffix(".csv").write_text("\r\n".join(partition), encoding="utf-8-sig")
    (hq / MAPPING).with_suffix(".csv").write_text("\n".join(map(",".join, map(str.split, (hq / MAPPING).open()))))
    (hq / MAPPING).unlink()
    _, names, *rows = map(str.split, (hq / ANNOTATION).read_text().splitlines())
    (hq / ANNOTATION).unlink()
    for low in ("-1", "0"):
        text = "\n".join(",".join(row) for row in [["image_id", *names], *rows]).replace(",-1", f",{low}")
        (hq / ANNOTATION).with_suffix(".csv").write_text(text)
        data = load_some(tmp_path)
        assert list(data) == list(expected) and all(torch.equal(data[name], expected[name]) for name in data)


def test_no_folder_and_a_folder_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent/.*: no such file or folder; expected are"):
        load_some(tmp_path / "absent")
    (make_set(tmp_path) / PARTITION).unlink()
    (tmp_path / PARTITION).mkdir()
    with pytest.raises(InputError, match=f"{PARTITION}: is not a file"):
        load_some(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "partition",
            "000100.jpg 0",
            "000100.jpg 3",
            r", line 12: partition '3'; allowed: 0 \(train\), 1 \(valid\), 2",
        ),
        ("partition", "000100.jpg 0", "000100.jpg", ", line 12: 1 fields; there must be 2"),
        ("partition", "000100.jpg", "000099.jpg", ", line 12: '000099.jpg' is already on line 11"),
        ("partition", "000100.jpg 0\n", "", f": no row for '000100.jpg', which {MAPPING} names"),
        ("mapping", "orig_idx", "original", ", line 1: the header must be 'idx orig_idx orig_file'"),
        ("mapping", "3       96", "x       96", ", line 5, column 'idx': 'x' is not a whole number"),
        ("mapping", "3       96", "3.0     96", ", line 5, column 'idx': '3.0' is not a whole number"),
        ("mapping", "3       96", "2       96", ", line 5: '2' is already on line 4"),
        ("mapping", "3       96", "3", ", line 5: 2 fields; there must be 3"),
        ("annotation", "12\n", "", ": line 1 must be the number of images, line 2 the attributes' names"),
        ("annotation", "12\n", "13\n", ", line 1: 13 images, but the file has rows for 12"),
        ("annotation", "2.jpg  1", "2.jpg ", ", line 5: 40 fields; there must be 41"),
        ("annotation", "2.jpg  1", "2.jpg  1 1", ", line 5: 42 fields; there must be 41"),
        ("annotation", "2.jpg  1", "2.jpg  0", ", line 5, column 'Other_0': '0'; allowed: -1 or 1"),
        ("annotation", "2.jpg", "1.jpg", ", line 5: '1.jpg' is already on line 4"),
        ("annotation", "2.jpg", "99.jpg", f": no row for '2.jpg', which {MAPPING} names"),
    ],
)
def test_damaged_files(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    path = make_set(tmp_path) / NAMES[file]
    edit(path, old, new)
    with pytest.raises(InputError, match=f"{path.name}{message}"):
        load_some(tmp_path)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", NAMES.values())
def test_empty_files(tmp_path: Path, name: str) -> None:
    (make_set(tmp_path) / name).write_text("\n")
    with pytest.raises(InputError, match=Path(name).name):
        load_some(tmp_path)


@pytest.mark.parametrize(
    ("name", "near"), [("Smilling", "Smiling"), ("eyeglasses", "Eyeglasses"), ("Mouth_Open", "Mouth_Slightly_Open")]
)
def test_an_unknown_attribute_suggests_the_nearest(tmp_path: Path, name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"{ANNOTATION}, line 2: no attribute '{name}'; try .*{near}"):
        load_some(make_set(tmp_path), names=("Male", name))


def test_an_empty_split(tmp_path: Path) -> None:
    path = make_set(tmp_path) / PARTITION
    path.write_text(path.read_text().replace("jpg 1", "jpg 0"))
    with pytest.raises(InputError, match=f"{MAPPING}, split 'valid': no images"):
        load_some(tmp_path, "valid")


def test_absent_images(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """They are refused, or on request left out with their attributes."""
    (make_set(tmp_path) / FOLDER / IMAGES / "2.jpg").unlink()
    with pytest.raises(InputError, match=f"{MAPPING}, split 'train': 1 of 7 images are absent from .*{IMAGES}: 2.jpg;"):
        load_some(tmp_path)
    capsys.readouterr()
    data = load_some(tmp_path, skip_missing=True)
    assert [len(values) for values in data.values()] == [6, 6, 6, 6]
    assert data["image"][:, 0, 0, 0].div(20).round().tolist() == [0, 4, 5, 7, 9, 10]
    assert data["Smiling"].tolist() == [smiles(index) for index in (0, 4, 5, 7, 9, 10)]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"text"])
def test_a_broken_image(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = make_set(tmp_path) / FOLDER / IMAGES / "4.jpg"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"{IMAGES}: 1 of 7 images do not decode: 4.jpg"):
        load_some(tmp_path)
