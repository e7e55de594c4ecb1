"""The cache of decoded images: made once, mapped, keyed by what the pixels depend on, and never left half made."""

import os
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dscm.data.cache import decode, find_present, user_cache_dir
from dscm.data.images import read_image
from dscm.errors import InputError

NAMES = [f"sub folder/é {index}.png" for index in range(12)]
READ = partial(read_image, size=5, channels=3)


def make_images(folder: Path) -> Tensor:
    """Write the images `NAMES` of noise and return them, uint8 (12, 3, 5, 5)."""
    pixels = np.random.default_rng(0).integers(256, size=(len(NAMES), 5, 5, 3), dtype=np.uint8)
    for name, image in zip(NAMES, pixels):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def decode_all(folder: Path, label: str = "some images", workers: int = 1) -> Tensor:
    """Decode `NAMES` in ``folder / data``, with ``folder / cache`` as the cache."""
    return decode(folder / "data", NAMES, READ, (3, 5, 5), folder / "cache", label, workers)[0]


def cached(folder: Path) -> list[str]:
    """List the files of the cache."""
    return sorted(path.name for path in (folder / "cache").iterdir())


def refuse_to_read(path: Path) -> Tensor:
    """Stand for a reader that must not be called."""
    raise AssertionError(f"{path} was read again")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_pixel_and_the_order_are_kept(tmp_path: Path, workers: int) -> None:
    expected = make_images(tmp_path / "data")
    image = decode_all(tmp_path, workers=workers)
    assert image.dtype == torch.uint8 and torch.equal(image, expected)
    assert torch.equal(image[torch.tensor([7, 0, 7])], expected[[7, 0, 7]])
    (name,) = cached(tmp_path)  # and nothing temporary
    assert name.startswith("some images-") and name.endswith(".npy")


def test_the_file_is_mapped_not_read(tmp_path: Path) -> None:
    """A byte changed in the file is seen in the tensor; one changed in the tensor never reaches the file."""
    make_images(tmp_path / "data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch warns about arrays that can't be written to
        image = decode_all(tmp_path)
    file = tmp_path / "cache" / cached(tmp_path)[0]
    data = bytearray(file.read_bytes())
    data[-1] ^= 255
    with open(file, "r+b") as opened:
        opened.write(data)
    assert image[-1, -1, -1, -1] == data[-1]
    image[-1] = 7
    assert file.read_bytes() == data


def test_made_once(tmp_path: Path) -> None:
    expected = make_images(tmp_path / "data")
    decode_all(tmp_path)
    arguments = (tmp_path / "data", NAMES, refuse_to_read, (3, 5, 5), tmp_path / "cache", "some images")
    assert torch.equal(decode(*arguments)[0], expected) and len(cached(tmp_path)) == 1


def test_a_changed_image_is_decoded_again(tmp_path: Path) -> None:
    """Also one of the same size in bytes: the time tells. The old file, which may be in use, stays as it is."""
    make_images(tmp_path / "data")
    before = decode_all(tmp_path)
    path = tmp_path / "data" / NAMES[3]
    Image.fromarray(np.full((5, 5, 3), 9, np.uint8)).save(path)
    after = decode_all(tmp_path)
    assert (after[3] == 9).all() and (before[3] != 9).any() and len(cached(tmp_path)) == 2
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    decode_all(tmp_path)
    assert len(cached(tmp_path)) == 3


def test_other_labels_shapes_and_lists_have_other_files(tmp_path: Path) -> None:
    make_images(tmp_path / "data")
    decode_all(tmp_path)
    decode_all(tmp_path, label="other images")
    small = partial(read_image, size=2, channels=1)
    image, _ = decode(tmp_path / "data", NAMES, small, (1, 2, 2), tmp_path / "cache", "some images")
    backwards, _ = decode(tmp_path / "data", NAMES[::-1], READ, (3, 5, 5), tmp_path / "cache", "some images")
    assert image.shape == (12, 1, 2, 2) and torch.equal(backwards.flip(0), decode_all(tmp_path))
    assert len(cached(tmp_path)) == 4


def test_broken_images_are_one_error(tmp_path: Path) -> None:
    make_images(tmp_path / "data")
    for name in NAMES[2:7]:
        (tmp_path / "data" / name).write_bytes(b"")
    message = (
        "5 of 12 images do not decode: sub folder/é 2.png .the file is empty.*é 3.*é 4.*é 5.*é 6[^…]*skip_missing$"
    )
    with pytest.raises(InputError, match=message) as caught:
        decode_all(tmp_path)
    assert "\n" not in str(caught.value)
    assert cached(tmp_path) == []


def test_broken_images_are_left_out_and_stay_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With a line each time; the others are decoded once. Who does not ask for it is still refused."""
    expected = make_images(tmp_path / "data")
    broken = (0, 5, 11)
    for index in broken:
        (tmp_path / "data" / NAMES[index]).write_text("text")
    rest = [index for index in range(12) if index not in broken]
    for read in (READ, refuse_to_read):
        arguments = (tmp_path / "data", NAMES, read, (3, 5, 5), tmp_path / "cache", "some images")
        image, kept = decode(*arguments, skip_broken=True)
        assert kept == rest and torch.equal(image, expected[rest])
        (line,) = [text for text in capsys.readouterr().err.splitlines() if text.endswith("left out")]
        assert "3 of 12 images do not decode: sub folder/é 0.png (not a PNG, JPEG or other image), " in line
    with pytest.raises(InputError, match="3 of 12 images do not decode.*; leave them out with skip_missing$"):
        decode_all(tmp_path)


def test_a_set_without_a_whole_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"1 of 1 images do not decode: a.png \(the file is empty \(0 bytes\)\)$"):
        decode(tmp_path, ["a.png"], READ, (3, 5, 5), tmp_path / "cache", "some images", skip_broken=True)
    assert cached(tmp_path) == []


def test_a_reader_of_another_shape_is_a_bug(tmp_path: Path) -> None:
    make_images(tmp_path / "data")
    with pytest.raises(ValueError, match=r"torch.uint8 of shape \(3, 5, 5\), not uint8 of \(1, 5, 5\)"):
        decode(tmp_path / "data", NAMES, READ, (1, 5, 5), tmp_path / "cache", "some images")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("at", [b"descr", b"(", b"shape", b"|u1"])
def test_a_damaged_header_says_so(tmp_path: Path, at: bytes) -> None:
    """NumPy reads it as Python, and raises nearly anything."""
    make_images(tmp_path / "data")
    decode_all(tmp_path)
    file = tmp_path / "cache" / cached(tmp_path)[0]
    content = file.read_bytes()
    start = content.index(at)
    for damage in (bytes(30), b"(" * 30, b"9" * 3):
        file.write_bytes(content[:start] + damage + content[start + len(damage) :])
        with pytest.raises(InputError, match="npy: damaged; delete it"):
            decode_all(tmp_path)


@pytest.mark.parametrize("size", [0, 50, -1])
def test_a_damaged_file_says_so(tmp_path: Path, size: int) -> None:
    make_images(tmp_path / "data")
    decode_all(tmp_path)
    file = tmp_path / "cache" / cached(tmp_path)[0]
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError, match="npy: damaged; delete it"):
        decode_all(tmp_path)


def make_empty(folder: Path, count: int) -> list[str]:
    """Make empty files, which are present all the same, and return their names."""
    names = [f"{index}.jpg" for index in range(count)]
    for name in names:
        (folder / name).touch()
    return names


def test_all_present(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert find_present(tmp_path, make_empty(tmp_path, 3), "list", False) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_one_in_a_hundred_may_be_absent(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    names = make_empty(tmp_path, 100)
    (tmp_path / names[1]).unlink()
    assert find_present(tmp_path, names, "list", False) == [0, *range(2, 100)]
    assert capsys.readouterr().err == f"list: 1 of 100 images are absent from {tmp_path}: 1.jpg; left out\n"


def test_more_may_be_absent_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    names = make_empty(tmp_path, 100)
    for name in names[:30]:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"^list: 30 of 100 .*: 0.jpg, .* 19.jpg, …; allowed: 1%, .*skip_missing$"):
        find_present(tmp_path, names, "list", False)
    assert capsys.readouterr().err == ""
    assert find_present(tmp_path, names, "list", True) == list(range(30, 100))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^list: no images$"):
        find_present(tmp_path, [], "list", True)
    with pytest.raises(InputError, match="^list: 1 of 1 images are absent from .*: a.jpg$"):
        find_present(tmp_path, ["a.jpg"], "list", True)


def test_a_home_where_nothing_can_be_written_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one that the system does not know."""
    elsewhere = Path(tempfile.gettempdir()) / "dscm"
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "absent")
    assert user_cache_dir() == tmp_path / "absent" / ".cache" / "dscm"
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: path != tmp_path)
        assert user_cache_dir() == elsewhere

    def unknown() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", unknown)
    assert user_cache_dir() == elsewhere
