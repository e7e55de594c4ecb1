"""CelebA: the published layouts read exactly, at any scale, and one clear error for each way they can be wrong."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from dscm.data.celeba import ANNOTATION, IDENTITIES, IMAGES, load
from dscm.data.celeba_tables import PARTITION
from dscm.errors import InputError
from tests.support.celeba import PARTS, PEOPLE, make_set


def load_some(folder: Path, split: str = "train", **options: bool) -> dict[str, torch.Tensor]:
    """Load the set in ``folder`` with ``folder / cache`` as the cache."""
    return load(folder, split, ("Male", "Smiling"), 16, folder / "cache", **options)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file, which must have it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("size", [(218, 178), (109, 89), (64, 64), (55, 45)])
@pytest.mark.parametrize(("split", "part"), [("train", 0), ("valid", 1), ("test", 2)])
def test_each_split_has_its_faces(tmp_path: Path, split: str, part: int, size: tuple[int, int]) -> None:
    """The square alone is seen, whatever the scale; attributes, identities and numbers belong to it."""
    data = load_some(make_set(tmp_path, size), split)
    own = [i for i, other in enumerate(PARTS) if other == part]
    assert data["index"].tolist() == [i + 1 for i in own] and data["image"].shape == (len(own), 3, 16, 16)
    inner = data["image"][:, :, 1:-1].int()  # at odd scales an edge row blends with what lies beyond
    assert (inner - 20 * torch.tensor(own)[:, None, None, None]).abs().max() <= 12
    assert data["Smiling"].tolist() == [int(i % 3 == 0) for i in own]
    assert data["Male"].tolist() == [1 - i % 2 for i in own]
    assert data["identity"].tolist() == [PEOPLE[i] for i in own]


def test_all_layouts_hold_the_same(tmp_path: Path) -> None:
    """In the folders of the release; as Kaggle's tables, without identities, the images one folder deeper."""
    expected = load_some(make_set(tmp_path / "flat"))
    released = load_some(make_set(tmp_path / "released", places=("Anno", "Eval", "Img")))
    assert expected.keys() == released.keys() and all(torch.equal(expected[name], released[name]) for name in expected)
    folder = make_set(tmp_path / "kaggle")
    (folder / IMAGES).rename(folder / "inner")
    (folder / IMAGES).mkdir()
    (folder / "inner").rename(folder / IMAGES / IMAGES)
    (folder / IDENTITIES).unlink()
    _, names, *rows = map(str.split, (folder / ANNOTATION).read_text().splitlines())
    table = "\n".join(map(",".join, [["image_id", *names], *rows]))
    (folder / ANNOTATION).with_suffix(".csv").write_text(table)
    partition = ["image_id,partition", *(folder / PARTITION).read_text().replace(" ", ",").splitlines()]
    (folder / PARTITION).with_suffix(".csv").write_text("\n".join(partition))
    for name in (ANNOTATION, PARTITION):
        (folder / name).unlink()
    copied = load_some(folder)
    assert expected.keys() - copied.keys() == {"identity"}
    assert all(torch.equal(expected[name], values) for name, values in copied.items())


def test_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_some(make_set(tmp_path))
    monkeypatch.setattr(Image, "open", None)
    assert torch.equal(load_some(tmp_path)["image"], first["image"])


@pytest.mark.parametrize("name", [ANNOTATION, PARTITION, IMAGES])
def test_an_incomplete_layout_says_what_is_expected(tmp_path: Path, name: str) -> None:
    (make_set(tmp_path) / name).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{name}: no such file or folder; expected are {IMAGES}/000001.jpg"):
        load_some(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (PARTITION, "000003.jpg 0\n", "", f": no row for '000003.jpg', which {ANNOTATION} names"),
        (PARTITION, "000003.jpg 0", "000003.jpg 5", r", line 3: partition '5'; allowed: 0 \(train\)"),
        (IDENTITIES, "000003.jpg 7\n", "", f": no row for '000003.jpg', which {ANNOTATION} names"),
        (IDENTITIES, "000003.jpg 7", "000003.jpg x", ", line 3: person 'x' is not a whole number"),
        (IDENTITIES, "000004.jpg 4", "000004.jpg 7", ", line 4: person 7 is in part 1 of .*, but in 0 as 000001.jpg"),
        (ANNOTATION, "000003.jpg  1", "000003.jpg  2", ", line 5, column '5_o_Clock_Shadow': '2'; allowed: -1 or 1"),
        (ANNOTATION, "000003.jpg", "third.jpg", f": no row for 'third.jpg'|{ANNOTATION}: image 'third.jpg' is no"),
    ],
)
def test_damaged_files(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    edit(make_set(tmp_path) / file, old, new)
    with pytest.raises(InputError, match=message):
        load_some(tmp_path)


def test_absent_images(tmp_path: Path) -> None:
    """They are refused, or on request left out with their attributes."""
    (make_set(tmp_path) / IMAGES / "000003.jpg").unlink()
    with pytest.raises(InputError, match=f"{ANNOTATION}, split 'train': 1 of 5 images are absent"):
        load_some(tmp_path)
    data = load_some(tmp_path, skip_missing=True)
    assert data["index"].tolist() == [1, 5, 6, 8] and data["identity"].tolist() == [7, 5, 5, 7]
