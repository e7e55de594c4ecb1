"""IDX files: round trips, determinism, and one clear error for each way a file can be wrong."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from dscm.data.morphomnist.idx import find_idx, read_idx, write_idx
from dscm.errors import InputError

ARRAY = torch.arange(2 * 3 * 5, dtype=torch.uint8).reshape(2, 3, 5)
BYTES = b"\0\0\x08\x03" + b"\0\0\0\2" + b"\0\0\0\3" + b"\0\0\0\5" + bytes(range(30))


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (30,), (0, 28, 28), (1, 1, 1, 30)])
def test_round_trip(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    array = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_idx(tmp_path / name, array)
    read = read_idx(tmp_path / name)
    assert read.dtype == torch.uint8 and read.shape == shape and torch.equal(read, array)


def test_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", ARRAY)
    assert (tmp_path / "a").read_bytes() == BYTES


def test_numpy_and_strided_input(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.asfortranarray(ARRAY.numpy()))
    write_idx(tmp_path / "b", ARRAY.permute(2, 0, 1))
    assert torch.equal(read_idx(tmp_path / "a"), ARRAY)
    assert torch.equal(read_idx(tmp_path / "b"), ARRAY.permute(2, 0, 1))


def test_the_bytes_not_the_name_say_gzip(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(BYTES)
    (tmp_path / "zipped").write_bytes(gzip.compress(BYTES))
    assert torch.equal(read_idx(tmp_path / "plain.gz"), ARRAY)
    assert torch.equal(read_idx(tmp_path / "zipped"), ARRAY)


def test_same_array_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "a.gz", ARRAY)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_idx(tmp_path / "b.gz", ARRAY)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gz", "b.gz"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x89PNG\r\n\x1a\n", "not an IDX file of bytes: it starts with '89 50 4e 47'"),
        (b"\0\0\x0d\1\0\0\0\0", "not an IDX file of bytes"),
        (b"\0\0\x08\0" + bytes(9), "not an IDX file"),
        (BYTES[:10], "truncated in the header, which has 3"),
        (BYTES[:-1], r"30 bytes of data \(shape 2 x 3 x 5\), the file has 29"),
        (BYTES + b"\0", "the file has 31"),
        (b"\0\0\x08\3" + b"\xff" * 12, "the file has 0"),
        (gzip.compress(BYTES)[:-12], "damaged gzip"),
        (gzip.compress(BYTES)[:-8] + bytes(8), "damaged gzip"),
        (b"\x1f\x8b" + bytes(30), "damaged gzip"),
        (gzip.compress(BYTES[:-1]), "the file has 29"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "some file").write_bytes(data)
    with pytest.raises(InputError, match=f"some file: .*{message}"):
        read_idx(tmp_path / "some file")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: cannot be read: No such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_idx(tmp_path)


@pytest.mark.parametrize("array", [torch.zeros(3), torch.tensor(3, dtype=torch.uint8)])
def test_write_refuses_what_idx_cannot_hold(tmp_path: Path, array: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write_idx(tmp_path / "a", array)
    assert not list(tmp_path.iterdir())


def test_find(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="looked for stem and stem.gz"):
        find_idx(tmp_path, "stem")
    write_idx(tmp_path / "stem.gz", ARRAY)
    assert find_idx(tmp_path, "stem") == tmp_path / "stem.gz"
    write_idx(tmp_path / "stem", ARRAY)
    assert find_idx(tmp_path, "stem") == tmp_path / "stem"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_name_may_have_a_dot(tmp_path: Path, suffix: str) -> None:
    """As raw MNIST has when it was unpacked on Windows."""
    write_idx(tmp_path / f"t10k-images.idx3-ubyte{suffix}", ARRAY)
    assert find_idx(tmp_path, "t10k-images-idx3-ubyte") == tmp_path / f"t10k-images.idx3-ubyte{suffix}"
