"""EMBED: tables merged, patients kept together, mammograms prepared, and one clear error for each bad input."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dscm.data.embed import COLUMNS, SHARES, Split, assign_split, load
from dscm.data.framing import Framing
from dscm.data.table import write_csv
from dscm.errors import InputError

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
IMAGES = [f"images/é {index:02}.png" for index in range(12)]  # two of each of six patients
PARTS = ("train", "test", "train", "valid", "train", "test")
OWN = {part: [i for i in range(12) if PARTS[i // 2] == part] for part in SPLITS}


def make_columns() -> dict[str, list]:
    """Return all columns for `IMAGES`."""
    return {
        "image_path": list(IMAGES),
        "empi_anon": [f"patient {index // 2}" for index in range(12)],
        "circle marker": [index % 2 for index in range(12)],
        "triangle marker": [int(index > 5) for index in range(12)],
        "tissueden": [1 + index % 4 for index in range(12)],
        "is_positive": [int(index == 11) for index in range(12)],
        "split": [PARTS[index // 2] for index in range(12)],
    }


def make_set(folder: Path, **changes: list) -> list[Path]:
    """Write 12 mammograms of which the left half is grey level 20 i, and two tables; the columns may be changed."""
    for index, name in enumerate(IMAGES):
        pixels = np.zeros((6, 8), np.uint16)
        pixels[:, :4] = 20 * index * 257
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    columns = make_columns() | changes
    marks = ("image_path", "empi_anon", "split", "circle marker", "triangle marker")
    write_csv(folder / "marks.csv", {name: columns[name] for name in marks})
    others = {name: columns[name][::-1] for name in ("image_path", "empi_anon", "tissueden", "is_positive")}
    write_csv(folder / "breasts.csv", others)
    return [folder / "marks.csv", folder / "breasts.csv"]


def load_some(folder: Path, csvs: list[Path], split: Split = "train", **options: object) -> dict[str, Tensor]:
    """Load all attributes at 8 pixels with ``folder / cache`` as the cache, and check what every set must be."""
    data = load(folder, csvs, split, options.pop("names", list(COLUMNS)), 8, folder / "cache", **options)
    image = data["image"]
    assert image.dtype == torch.uint8 and image.shape[1:] == (1, 8, 8)
    assert all(values.dtype == torch.int64 and len(values) == len(image) for values in list(data.values())[1:])
    return data


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Tell whether two sets are equal, in every image and attribute."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file, which must have it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("split", SPLITS)
def test_images_and_attributes_of_a_split(tmp_path: Path, split: Split) -> None:
    data = load_some(tmp_path, make_set(tmp_path), split)
    own, columns = OWN[split], make_columns()
    assert list(data) == ["image", "index", "circle marker", "triangle marker", "density", "cancer"]
    assert data["index"].tolist() == own
    assert data["image"][:, 0, 0, 0].tolist() == [20 * index for index in own]
    assert (data["image"][..., 6:] == 0).all()
    assert data["density"].tolist() == [columns["tissueden"][index] - 1 for index in own]
    for name in ("circle marker", "triangle marker", "cancer"):
        assert data[name].tolist() == [columns[COLUMNS[name]][index] for index in own]


def test_the_order_of_files_and_rows_is_nothing(tmp_path: Path) -> None:
    csvs = make_set(tmp_path)
    expected = load_some(tmp_path, csvs)
    assert same(load_some(tmp_path, [str(path) for path in csvs[::-1]]), expected)
    header, *rows = csvs[0].read_text().splitlines()
    csvs[0].write_text("\n".join([header, *rows[::-1]]) + "\n")
    assert same(load_some(tmp_path, csvs), expected)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_one_file_is_enough_for_its_own_columns(tmp_path: Path) -> None:
    csvs = make_set(tmp_path)
    data = load_some(tmp_path, csvs[:1], names=["triangle marker"])
    assert list(data) == ["image", "index", "triangle marker"] and len(data["image"]) == 6
    with pytest.raises(InputError, match="no column 'tissueden': .*marks.csv has image_path, empi_anon, split, circle"):
        load_some(tmp_path, csvs[:1])


def test_rows_of_both_files_are_used(tmp_path: Path) -> None:
    """An image of which one file knows nothing is dropped, though it be broken."""
    csvs = make_set(tmp_path)
    (tmp_path / IMAGES[4]).write_bytes(b"")
    lines = csvs[1].read_text().splitlines()
    csvs[1].write_text("\n".join(line for line in lines if not line.startswith(IMAGES[4])))
    assert load_some(tmp_path, csvs)["image"][:, 0, 0, 0].tolist() == [0, 20, 100, 160, 180]
    csvs[1].write_text(lines[0])
    with pytest.raises(InputError, match="no image_path is in every CSV .*, 12 of .*marks.csv and 0 of .*breasts.csv$"):
        load_some(tmp_path, csvs)
    with pytest.raises(InputError, match="one or two CSV files: give them with csv"):
        load_some(tmp_path, [])


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    """As pandas writes a column that once had gaps."""
    expected = load_some(tmp_path, make_set(tmp_path))
    floats = [float(value) for value in make_columns()["tissueden"]]
    assert same(load_some(tmp_path, make_set(tmp_path, tissueden=floats)), expected)


def test_decoded_once_and_again_with_other_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csvs = make_set(tmp_path)
    expected = load_some(tmp_path, csvs)
    (file,) = (tmp_path / "cache").iterdir()
    before = file.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        assert same(load_some(tmp_path, csvs), expected) and file.stat().st_mtime_ns == before
    padded = load_some(tmp_path, csvs, framing=Framing("pad"))
    assert padded["image"][3, 0, 5, 0] == expected["image"][3, 0, 5, 0] and padded["image"][:, 0, 7].max() == 0
    load_some(tmp_path, csvs, framing=Framing(clean_background=True))
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_the_hash_keeps_the_shares() -> None:
    """Of 20,000 patients they are right to 1%; another seed deals independently; and no version deals otherwise."""
    patients = [str(1000 + index) for index in range(20000)]
    first, second = ([assign_split(patient, seed) for patient in patients] for seed in (0, 1))
    for part, share in SHARES.items():
        both = sum(one == other == part for one, other in zip(first, second))
        assert abs(first.count(part) / 20000 - share) < 0.01 and abs(both / 20000 - share**2) < 0.01
    assert [assign_split(patient, 0) for patient in ("1", "8", "3")] == ["train", "valid", "test"]


def test_no_patient_is_in_two_splits(tmp_path: Path) -> None:
    """Each image is in one split, a patient's images are in the same, and other patients change nothing."""
    csvs = make_set(tmp_path)
    for path in csvs:
        path.write_text(path.read_text().replace("split", "another column"))
    found = {}
    for part in SPLITS:
        if any(assign_split(f"patient {patient}", 3) == part for patient in range(6)):
            levels = load_some(tmp_path, csvs, part, seed=3)["image"][:, 0, 0, 0]
            found[part] = {(level // 20) // 2 for level in levels.tolist()}
            assert len(levels) == 2 * len(found[part])
    assert len(found) > 1 and sorted(patient for own in found.values() for patient in own) == list(range(6))
    for path in csvs:
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line for line in lines if "patient 5" not in line))
    for part, own in found.items():
        levels = load_some(tmp_path, csvs, part, seed=3)["image"][:, 0, 0, 0]
        assert {(level // 20) // 2 for level in levels.tolist()} == own - {5}


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (0, "image_path", "path", "marks.csv: no column 'image_path'; the columns are path, empi_anon"),
        (0, "circle marker", "circle", "no column 'circle marker': .*marks.csv has .*; .*breasts.csv has "),
        (0, "é 03", "é 02", "marks.csv, line 5: 'images/é 02.png' is already on line 4"),
        (
            0,
            "patient 1,test",
            "patient 1,train",
            "marks.csv, line 5: patient 'patient 1' is in split 'test', but in .*4",
        ),
        (0, "patient 1,test", "patient 1,dev", "line 4, column 'split': 'dev'; allowed: train, valid, test"),
        (0, "patient 1,", "patient 0,", "breasts.csv, line 11, column 'empi_anon': 'patient 1', but 'patient 0' for"),
        (0, "test,0,0", "test,2,0", "marks.csv, line 4, column 'circle marker': '2'; allowed: 0 or 1"),
        (0, "test,0,0", "test,0,-1", "marks.csv, line 4, column 'triangle marker': '-1', but '0' on line 2"),
        (0, "test,0,0", "test,0.5,0", "marks.csv, line 4, column 'circle marker': '0.5'; allowed: 0 or 1"),
        (1, "patient 5,4,", "patient 5,6,", "breasts.csv, line 2, column 'tissueden': 6; allowed: 1 to 4, or 5, which"),
        (1, "patient 5,4,", "patient 5,0,", "breasts.csv, line 2, column 'tissueden': 0; allowed: 1 to 4"),
        (1, "patient 5,4,1", "patient 5,4,yes", "breasts.csv, line .*, column 'is_positive': .*'yes' on line 2; write"),
    ],
)
def test_bad_tables(tmp_path: Path, file: int, old: str, new: str, message: str) -> None:
    csvs = make_set(tmp_path)
    edit(csvs[file], old, new)
    with pytest.raises(InputError, match=message):
        load_some(tmp_path, csvs)
    assert not (tmp_path / "cache").exists()


def test_rows_without_a_density_are_counted_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Density 5 is EMBED's "normal male"; the other rows keep their values and their numbers."""
    expected = load_some(tmp_path, make_set(tmp_path))
    densities: list = make_columns()["tissueden"]
    densities[0], densities[4] = 5.0, ""  # of the train split
    densities[2] = "NaN"  # of the test split
    capsys.readouterr()
    data = load_some(tmp_path, make_set(tmp_path, tissueden=densities))
    for name, values in data.items():
        assert torch.equal(values, expected[name][[1, 3, 4, 5]]), name
    note = "split 'train': 2 of 6 rows are left out: 1 with tissueden 5 (normal male), 1 without tissueden\n"
    assert capsys.readouterr().err.partition("breasts.csv, ")[2].startswith(note)
    assert "left out" not in (load_some(tmp_path, make_set(tmp_path), "valid"), capsys.readouterr().err)[1]


def test_binary_columns_as_others_write_them(tmp_path: Path) -> None:
    """The notation is that of the column, not of the split's share of it."""
    expected = load_some(tmp_path, make_set(tmp_path))
    markers = make_columns()["circle marker"]
    for words in ((-1, 1), ("FALSE", "TRUE"), ("no", "yes")):
        csvs = make_set(tmp_path, **{"circle marker": [words[i] for i in markers]})
        assert same(load_some(tmp_path, csvs), expected)


def test_paths_as_others_write_them(tmp_path: Path) -> None:
    """Backslashes, ./ and spaces in one file, the absolute path in the other."""
    expected = load_some(tmp_path, make_set(tmp_path))
    csvs = make_set(tmp_path)
    csvs[0].write_text(csvs[0].read_text().replace("images/", ".\\images\\").replace(".png,", ".PNG ,"))
    csvs[1].write_text(csvs[1].read_text().replace("images/", f"{tmp_path}/images/"))
    assert same(load_some(tmp_path, csvs), expected)


def test_a_patient_must_be_named(tmp_path: Path) -> None:
    csvs = make_set(tmp_path, empi_anon=[""] * 12)
    with pytest.raises(InputError, match="marks.csv, line 2, column 'empi_anon': empty"):
        load_some(tmp_path, csvs)


def test_unknown_attribute_absent_file_and_empty_split(tmp_path: Path) -> None:
    csvs = make_set(tmp_path, split=["train"] * 12)
    with pytest.raises(InputError, match="no attribute 'circle'; try circle marker"):
        load_some(tmp_path, csvs, names=["circle"])
    with pytest.raises(InputError, match="absent.csv: cannot be read: No such file"):
        load_some(tmp_path, [csvs[0], tmp_path / "absent.csv"])
    with pytest.raises(InputError, match="marks.csv and .*breasts.csv, split 'test': no images"):
        load_some(tmp_path, csvs, "test")


def test_absent_images(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """They are refused, or on request left out with their attributes; those of another split are none's business."""
    csvs = make_set(tmp_path)
    for index in (2, 4):
        (tmp_path / IMAGES[index]).unlink()
    with pytest.raises(InputError, match="split 'train': 1 of 6 images are absent from .*: images/é 04.png; allowed"):
        load_some(tmp_path, csvs)
    capsys.readouterr()
    data = load_some(tmp_path, csvs, skip_missing=True)
    assert data["image"][:, 0, 0, 0].tolist() == [0, 20, 100, 160, 180]
    assert data["density"].tolist() == [0, 1, 1, 0, 1]
    assert "1 of 6 images are absent" in capsys.readouterr().err


def test_broken_images(tmp_path: Path) -> None:
    csvs = make_set(tmp_path)
    (tmp_path / IMAGES[0]).write_text("text")
    (tmp_path / IMAGES[1]).write_bytes(b"")
    message = "2 of 6 images do not decode: images/é 00.png .not a PNG.*, images/é 01.png .the file is empty"
    with pytest.raises(InputError, match=message):
        load_some(tmp_path, csvs)


def test_images_of_a_group_show_the_same(tmp_path: Path) -> None:
    """By a column of either table; an image without one is a group of its own."""
    csvs = make_set(tmp_path)
    rows = {"image_path": list(IMAGES), "group": ["a", "b", "a", "", "a", "b"] * 2}
    assert "group" not in load_some(tmp_path, csvs)
    write_csv(csvs[1], {**{name: make_columns()[name] for name in ("empi_anon", "tissueden", "is_positive")}, **rows})
    group = load_some(tmp_path, csvs)["group"]
    equal = [
        [one == other != "" or i == j for j, other in enumerate(rows["group"])] for i, one in enumerate(rows["group"])
    ]
    expected = torch.tensor(equal)[OWN["train"]][:, OWN["train"]]
    assert torch.equal(group[:, None] == group, expected)
