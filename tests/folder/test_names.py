"""Names of answers: legal everywhere, and as many as there are answers."""

import random
import re
from pathlib import Path

import pytest

from dscm.folder.names import Layout, make_legal, name_pictures, name_queries

NOT_UTF8 = "caf\udce9"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("thickness=5", "thickness=5"),
        ("thickness=*0.9,digit=3", "thickness=x0.9,digit=3"),
        ("digit=@/data/old/wished.csv:class", "digit=@wished.csv-class"),
        ("digit=@C:\\old\\a.png,slant=+1", "digit=@a.png,slant=+1"),
        ('kind=what? "this" <or> that|', "kind=what- -this- -or- that-"),
        ("kind=end. ", "kind=end"),
        ("nul", "-nul"),
        ("größe=é", "größe=é"),
    ],
)
def test_a_query_names_its_files(text: str, name: str) -> None:
    assert name_queries([text]) == {text: name}


@pytest.mark.parametrize(
    "texts",
    [
        ["digit=@a/b.png", "digit=@c/b.png", "digit=@b.png"],
        ["k=*", "k=x", "k=X", "k=?"],
        ["k=a/b", "k=a:b", "k=a-b"],
        ["k=" + 300 * "x" + "1", "k=" + 300 * "x" + "2"],
        ["k=é", "k=e\u0301"],
        ["k=a", "k=a.", "k=a "],
    ],
)
def test_queries_never_share_a_name(texts: list[str]) -> None:
    """Not even where capitals, or composed letters, are taken for the same."""
    names = name_queries(texts)
    assert [*names] == texts
    assert len({name.casefold() for name in names.values()}) == len(texts)


def test_pictures_never_share_a_name() -> None:
    """Of images that differ in suffix, case, or in what is not legal elsewhere; the first form that tells is taken."""
    paths = [Path(name) for name in ("a.png", "a.jpg", "b.png", "s/b.png", "q?.png", "q*.png", "Q-.png", "aux.png")]
    names = name_pictures(paths)
    assert names[Path("a.png")] == Path("a.png") and names[Path("a.jpg")] == Path("a.jpg")
    assert names[Path("b.png")] == Path("b") and names[Path("s/b.png")] == Path("s/b")
    assert names[Path("aux.png")] == Path("-aux")
    assert len({str(name).casefold() for name in names.values()}) == len(paths)


def test_no_picture_takes_the_place_of_a_result() -> None:
    """Of an image in a folder that is named like one."""
    names = name_pictures(
        [Path("grid.png/a.png"), Path("pasted/b.png"), Path("s/grid.png"), Path("Command.json/c.png")]
    )
    assert [path.as_posix() for path in names.values()] == ["-grid.png/a", "-pasted/b", "s/grid", "-Command.json/c"]


def test_names_fit_a_file_system(tmp_path: Path) -> None:
    """Names of 250 bytes, of two-byte letters, and not in UTF-8, with a long query: all are written."""
    paths = [Path("n" * 246 + ".png"), Path("n" * 245 + "m.png"), Path("ü" * 120 + ".png"), Path(f"{NOT_UTF8}.png")]
    layout = Layout(tmp_path, paths, ["kind=" + "long " * 60, "kind=" + "long " * 61])
    pictures = [layout.picture(path, query) for path in paths for query in layout.queries]
    for picture in [*pictures, *(layout.pasted(path, query) for path in paths for query in layout.queries)]:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.touch()
    assert len(set(pictures)) == 8 == len([path for path in tmp_path.iterdir() if path.is_file()])


def test_any_text_becomes_a_legal_name() -> None:
    """Of random characters; the same text has the same name, and a legal text of moderate length its own."""
    draw = random.Random(0)
    letters = 'aB9 .,=*?<>:"|/\\+@-é\u0301\udcff\n\x00'
    for _ in range(2000):
        text = "".join(draw.choices(letters, k=draw.randrange(1, 90)))
        name = make_legal(text, 60)
        assert name == make_legal(text, 60) and not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
        assert 0 < len(name.encode(errors="surrogateescape")) <= 60 and name[-1] not in " ."
    assert make_legal("thickness=5,digit=3", 60) == "thickness=5,digit=3"
