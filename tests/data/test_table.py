"""Cells of tables, as people write them: read to the same values, or refused by line and column."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dscm.data.table import read_binary, read_csv, read_integers, read_labels, read_numbers, write_csv
from dscm.errors import InputError


def column(path: Path, cells: Sequence[str], read: Callable[..., list[Any]], *labels: Sequence[str]) -> list[Any]:
    """Read one column of a table with semicolons."""
    path.write_text("\n".join(["name;x", *(f"n;{cell}" for cell in cells)]))
    return read(path, read_csv(path).rows, "x", *labels)


@pytest.mark.parametrize("low, high", [("0", "1"), ("-1", "1"), ("FALSE", "True"), ("no", "YES"), ("0.0", " 1.0 ")])
def test_a_binary_column_has_one_notation(tmp_path: Path, low: str, high: str) -> None:
    path = tmp_path / "t.csv"
    assert column(path, [low, high, low], read_binary) == [0, 1, 0]
    assert column(path, [high, high], read_binary) == [1, 1]
    assert column(path, [low, low], read_binary) == [0, 0]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["1", "0", "-1"],
            "line 4, column 'x': '-1', but '0' on line 3; write the whole column in one way: 0 or 1",
        ),
        (["1", "true"], "line 3, column 'x': 'true', but '1' on line 2"),
        (["yes", "maybe"], "line 3, column 'x': 'maybe'; allowed: 0 or 1, -1 or 1, false or true, no or yes"),
        (["0", "0.5"], "line 3, column 'x': '0.5'; allowed: 0 or 1"),
        (["0", "2"], "line 3, column 'x': '2'; allowed: 0 or 1"),
    ],
)
def test_another_notation_is_refused(tmp_path: Path, cells: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        column(tmp_path / "t.csv", cells, read_binary)


def test_decimal_commas_where_another_separator_is_used(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert column(path, ["1,5", "-2,25e-1", ",5", " 3 ", "−1"], read_numbers) == [1.5, -0.225, 0.5, 3, -1]
    assert column(path, ["7,0", "8"], read_integers) == [7, 8]
    assert column(path, ["7,0", "8"], read_labels, ["8", "7"]) == [1, 0]
    with pytest.raises(InputError, match="line 3, column 'x': '2.5', but '1,5' on line 2; use decimal commas"):
        column(path, ["1,5", "2.5"], read_numbers)
    for cell in ("1.234,5", "1,234,5"):
        with pytest.raises(InputError, match="line 2, column 'x': "):
            column(path, [cell], read_numbers)
    path.write_text('name,x\nn,"1,234"\n')
    with pytest.raises(InputError, match="'1,234' is not a finite number"):
        read_numbers(path, read_csv(path).rows, "x")


@pytest.mark.parametrize("cell", ["1_000", "1e999", "nan", "one", ""])
def test_what_is_no_number(tmp_path: Path, cell: str) -> None:
    with pytest.raises(InputError, match="line 2, column 'x'.* is not a finite number"):
        column(tmp_path / "t.csv", [cell], read_numbers)


def test_labels_exactly_or_else_alike(tmp_path: Path) -> None:
    path, labels = tmp_path / "t.csv", ["1", "Disk", "disk", "cross"]
    assert column(path, ["1.0", " 1", "Disk", "disk ", "CROSS"], read_labels, labels) == [0, 0, 1, 2, 3]
    with pytest.raises(InputError, match="line 2, column 'x': 'DISK'; allowed: 1, Disk, disk, cross"):
        column(path, ["DISK"], read_labels, labels)


TEXT = "image;weight, kg;größe\na.png;1;x\nb.png;2;y\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1"])
@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, separator: str, end: str) -> None:
    path, text = tmp_path / "t.csv", TEXT.replace(";", separator).replace("\n", end)
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    path.write_bytes((mark + text).encode(encoding))
    table = read_csv(path)
    assert table.columns == ["image", "weight, kg", "größe"]
    assert [(row.line, *row.cells.values()) for row in table.rows] == [(2, "a.png", "1", "x"), (3, "b.png", "2", "y")]
    path.write_bytes((mark + f"sep={separator}{end}" + text).encode(encoding))
    assert [row.line for row in read_csv(path).rows] == [3, 4]


def test_what_spreadsheets_add(tmp_path: Path) -> None:
    """Separators at the ends of lines, lines of nothing else, spaces and line breaks in the header, quotes."""
    path = tmp_path / "t.csv"
    path.write_text('"im\nage", size,,\n"a ""b""",1,,\n,,,\n\n"c,\nd",2\n')
    table = read_csv(path)
    assert table.columns == ["im age", "size"]
    assert [(row.line, *row.cells.values()) for row in table.rows] == [(3, 'a "b"', "1"), (7, "c,\nd", "2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no header in the first line"),
        (b",,\n\n", "no header in the first line"),
        (b"a,b\n1,2,,3\n", "line 2: 4 cells, the header has 2"),
        (b"a,b\n1,2\na, b\n", "line 3: the header again; delete this line"),
        (b'a,b\n1,"2\n', "line 2: not CSV: "),
        (b"a,b\n1," + b"2" * 200_000, "line 2: not CSV: field larger than field limit"),
        (b"a,b\n1,\0\n", "line 2: a NUL byte: not a text file in UTF-8, or in UTF-16 with its mark"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1: a NUL byte"),
        (b"\xff\xfea,b\n1", "damaged UTF-16: .*; save it as UTF-8"),
    ],
)
def test_damaged_tables(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(InputError, match=f"t.csv.*{message}") as caught:
        read_csv(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match="a.csv: is not a file"):
        read_csv(tmp_path / "a.csv")


def test_columns_by_name(tmp_path: Path) -> None:
    """Exactly, or else without regard to case, spaces and underscores, if there is one such."""
    write_csv(tmp_path / "t.csv", {"Circle_Marker": [1], "x": [2], "Size": [3], "SIZE": [4]})
    table = read_csv(tmp_path / "t.csv")
    assert table.find("circle marker") == "Circle_Marker" and table.find("x") == "x" and table.find("y") is None
    assert table.guess("circle markers") == "Circle_Marker" and table.guess("y") is None
    with pytest.raises(InputError, match="column 'size' may be 'Size' or 'SIZE'; rename one"):
        table.find("size")


def test_points_are_not_decimal_beside_decimal_commas(tmp_path: Path) -> None:
    """In one table they would be thousands, whichever column has the commas."""
    path = tmp_path / "a.csv"
    path.write_text("image;grey;slant\na.png;78.000;0,2\n")
    table = read_csv(path)
    assert read_numbers(path, table.rows, "slant") == [0.2]
    with pytest.raises(InputError, match="'78.000', but '0,2' on line 2; use decimal commas or points, not both"):
        read_numbers(path, table.rows, "grey")
