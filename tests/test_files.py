"""Files are written whole, or not at all."""

import os
from pathlib import Path

import pytest
import torch

from dscm.files import atomic_path, parse_json


def test_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    """Parents are made; while the block runs only a hidden temporary file is there, of the same suffix."""
    target = tmp_path / "a" / "b" / "c.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".txt" and temporary.name.startswith(".")
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new" and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_block_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: type[BaseException]) -> None:
    """Also when the user interrupts it."""
    target = tmp_path / "c.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_old_file_is_replaced_not_rewritten(tmp_path: Path) -> None:
    """Whoever has the old file open goes on reading it."""
    target = tmp_path / "c.txt"
    target.write_text("old")
    with target.open() as reader:
        with atomic_path(target) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert target.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_follow_the_umask_which_stays(tmp_path: Path) -> None:
    """A temporary file is private; the finished one is as readable as any other."""
    mask = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "c.txt") as temporary:
            temporary.write_text("new")
        assert (tmp_path / "c.txt").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize("library", ["python", "torch"])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, library: str) -> None:
    """Not the temporary one, though PyTorch hides what the system said."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as error, atomic_path(tmp_path / "c.pt") as temporary, temporary.open("wb") as file:
            torch.save(torch.zeros(1000), file) if library == "torch" else file.write(bytes(10**6))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(tmp_path / "c.pt") and error.value.strerror == "File too large"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, '"\\ud800"', '{"\\udfff": 1}', "1 2"])
def test_json_that_cannot_be_held_is_a_value_error(text: str) -> None:
    """Also where Python's reader raises something else, or only the writer would."""
    assert parse_json('{"ä": [1, null]}') == {"ä": [1, None]}
    with pytest.raises(ValueError):
        parse_json(text)
