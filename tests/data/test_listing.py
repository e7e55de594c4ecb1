"""Which files of a folder are its images: linked ones too, but no results of this program, and the rest is counted."""

import os
from pathlib import Path

import pytest

from dscm.data.listing import PASTED, RESULTS, SHEET, find_images, list_images
from dscm.errors import InputError
from dscm.folder import ledger, names, writer


def touch(folder: Path, *names: str) -> None:
    """Make empty files; what a file holds is not looked at."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path) -> list[str]:
    """List the images of a folder."""
    return [path.as_posix() for path in find_images(folder)]


def test_images_are_known_by_their_suffix(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.PNG",
        "a.jpeg",
        "sub folder/é ü.JPG",
        "sub folder/数字.webp",
        "c.tiff",
        ".hidden.png",
        ".cache/c.png",
    )
    touch(tmp_path, "attributes.csv", "notes.txt")
    (tmp_path / "folder.png").mkdir()
    assert found(tmp_path) == ["a.jpeg", "b.PNG", "c.tiff", "sub folder/é ü.JPG", "sub folder/数字.webp"]
    assert list_images(tmp_path).notes == [] and found(tmp_path / ".cache") == ["c.png"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no images in it; looked for .*\.png, .*[^.]$"):
        find_images(tmp_path)
    touch(tmp_path, "a.heic", "b.HEIC", "c.dcm", "d")
    with pytest.raises(InputError, match=r"no images in it; .*; passed over: 1 without a suffix, 1 .dcm, 2 .heic$"):
        find_images(tmp_path)
    touch(tmp_path, "a.png")
    with pytest.raises(InputError, match="a.png: is not a folder"):
        find_images(tmp_path / "a.png")


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.heic", "sub/c.heic", "d.svg", "attributes.csv", ".e.heic", "README.md")
    assert list_images(tmp_path).notes == [f"{tmp_path}: passed over: 2 .heic, 1 .svg"]


def test_linked_folders_are_read(tmp_path: Path) -> None:
    """A link within a linked folder too, and a link to one file."""
    touch(tmp_path, "in/a.png", "elsewhere/b.png", "far/c.png", "d.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "far").symlink_to("../far")
    (tmp_path / "in" / "e.png").symlink_to("../d.png")
    (tmp_path / "in" / "lost.png").symlink_to("nowhere")
    assert found(tmp_path / "in") == ["a.png", "e.png", "more/b.png", "more/far/c.png"]
    (note,) = list_images(tmp_path / "in").notes
    assert "1 entry that is no file" in note and "lost.png" in note
    (tmp_path / "linked").symlink_to("in")
    assert found(tmp_path / "linked") == found(tmp_path / "in")


def test_circles_end_and_no_folder_is_read_twice(tmp_path: Path) -> None:
    touch(tmp_path, "in/a/1.png", "in/b/2.png", "beside.png")
    for link, target in (("loop", "."), ("up", ".."), ("a/b", "../b"), ("b/a", "../a"), ("b/b", ".")):
        (tmp_path / "in" / link).symlink_to(target)
    assert found(tmp_path / "in") == ["a/1.png", "b/2.png"]
    (note,) = list_images(tmp_path / "in").notes
    assert "5 links to folders that are read already" in note


KNOWN = [
    ("command.json",),
    ("counterfactuals.csv",),
    ("log.jsonl", "checkpoint.pt"),
    ("metrics.json",),
    ("graph.json", "data.json"),
]


@pytest.mark.parametrize("marks", KNOWN, ids=" ".join)
def test_results_of_this_program_are_no_images(tmp_path: Path, marks: tuple[str, ...]) -> None:
    """Nowhere in the folder; but the folder that the user names is read, without the sheet and what was pasted."""
    touch(
        tmp_path, "a.png", *(f"sub/out/{name}" for name in (*marks, SHEET, "b.png", "deep/c.png", f"{PASTED}/q/d.png"))
    )
    assert found(tmp_path) == ["a.png"]
    (note,) = list_images(tmp_path).notes
    assert note.endswith(f"passed over: 1 folder with results of dscm ({tmp_path / 'sub' / 'out'})")
    assert found(tmp_path / "sub" / "out") == ["b.png", "deep/c.png"]


def test_names_are_those_of_the_writer() -> None:
    assert (SHEET, PASTED) == (writer.SHEET, names.PASTED)
    assert {ledger.COMMAND} in RESULTS


def test_one_of_two_marks_is_the_users_own(tmp_path: Path) -> None:
    touch(tmp_path, "sub/graph.json", "sub/log.jsonl", "sub/a.png")
    assert found(tmp_path) == ["sub/a.png"]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_need_not_be_text(tmp_path: Path) -> None:
    (Path(os.fsencode(tmp_path).decode()) / os.fsdecode(b"caf\xe9.png")).touch()
    assert find_images(tmp_path) == [Path(os.fsdecode(b"caf\xe9.png"))]
