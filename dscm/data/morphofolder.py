"""A Morpho-MNIST folder: digits in IDX files and their attributes in a CSV file with an ``index`` column."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dscm.data.idx import find_idx, read_idx, write_idx
from dscm.errors import InputError
from dscm.files import atomic_path

Split = Literal["train", "t10k"]


class Row(NamedTuple):
    """One row of a CSV file: the number of its line, and its cells by column."""

    line: int
    cells: dict[str, str]


def is_morpho_folder(folder: Path | str) -> bool:
    """Tell whether a folder has the CSV file of either split.

    Args:
        folder: the folder, which need not exist.
    """
    return any((Path(folder) / f"{split}-morpho.csv").is_file() for split in ("train", "t10k"))


def read_split(folder: Path | str, split: Split, attributes: Sequence[str],
               measure: Callable[[Tensor], dict[str, Tensor]] | None = None) -> dict[str, Tensor]:
    """Read the images, digits and attributes of one split; the CSV's rows may be in any order.

    Args:
        folder: the folder.
        split: ``train`` or ``t10k``.
        attributes: the attributes wanted.
        measure: called once with all images, uint8 (N, C, 28, 28), if the CSV lacks some attribute.

    Returns:
        ``image`` uint8 (N, C, 28, 28), ``digit`` int64 (N,), and each attribute float32 (N,).

    Raises:
        InputError: a file is missing or damaged, counts disagree, or an attribute is neither in the CSV nor measured.

    Source: Castro et al. 2019, Morpho-MNIST, https://github.com/dccastro/Morpho-MNIST.
    """
    folder = Path(folder)
    image = _read_images(find_idx(folder, f"{split}-images-idx3-ubyte"))
    digit = _read_digits(find_idx(folder, f"{split}-labels-idx1-ubyte"), len(image))
    path = folder / f"{split}-morpho.csv"
    columns, rows = read_csv(path)
    rows = _order_rows(path, rows, len(image))
    values = {name: torch.tensor(read_column(path, rows, name), dtype=torch.float32)
              for name in attributes if name in columns}
    missing = [name for name in attributes if name not in columns]
    measured = measure(image) if missing and measure else {}
    for name in missing:
        if name not in measured:
            raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(columns)}")
        values[name] = measured[name].to("cpu", torch.float32)
    return {"image": image, "digit": digit, **{name: values[name] for name in attributes}}


def write_split(folder: Path | str, split: Split, data: Mapping[str, Tensor]) -> None:
    """Write one split so that `read_split` reads it back exactly; grey images as N x 28 x 28.

    Args:
        folder: made if missing. It must not hold plain IDX files of this split, which `read_split` would prefer.
        split: ``train`` or ``t10k``.
        data: ``image`` uint8 (N, C, 28, 28), ``digit`` int64 (N,), and attributes (N,).

    Raises:
        ValueError: the images aren't uint8, or the lengths of the attributes differ.
    """
    attributes = {name: values.tolist() for name, values in data.items() if name not in ("image", "digit")}
    stem = Path(folder) / split
    write_idx(f"{stem}-images-idx3-ubyte.gz", data["image"].squeeze(1))
    write_idx(f"{stem}-labels-idx1-ubyte.gz", data["digit"].to(torch.uint8))
    write_csv(Path(f"{stem}-morpho.csv"), {"index": range(len(data["image"])), **attributes})


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """Read a CSV file with a header into its column names and rows; blank lines are skipped.

    Args:
        path: the file, in UTF-8.

    Raises:
        InputError: the file is missing, empty or damaged, a column's name occurs twice, or a row's length is wrong.
    """
    try:  # surrogateescape: a file's name on Linux is bytes, and need not be UTF-8
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    if not columns:
        raise InputError(f"{path}: no header in the first line")
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: a column's name occurs twice in the header {', '.join(columns)}")
    for line, cells in lines:
        if len(cells) != len(columns):
            raise InputError(f"{path}, line {line}: {len(cells)} cells, the header has {len(columns)}")
    return columns, [Row(line, dict(zip(columns, cells))) for line, cells in lines]


def read_column(path: Path, rows: Sequence[Row], column: str, whole: bool = False) -> list[int] | list[float]:
    """Turn one column of `read_csv` into numbers.

    Args:
        path: the file, for the message.
        rows: the rows to read, in the order wanted.
        column: the name of the column.
        whole: accept whole numbers only, and return ints.

    Raises:
        InputError: a cell isn't a number, isn't finite in float32, or isn't whole.
    """
    return [_read_number(path, line, column, cells[column], whole) for line, cells in rows]


def write_csv(path: Path, data: Mapping[str, Sequence[str] | Sequence[int] | Sequence[float]]) -> None:
    """Write columns as a CSV file; floats get the digits that read back to the same number.

    Args:
        path: the file; it is written whole or not at all.
        data: the columns by name, all of one length.

    Raises:
        ValueError: the lengths differ.
    """
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8",
                                              errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(data)
        writer.writerows(zip(*data.values(), strict=True))


def _read_images(path: Path) -> Tensor:
    """Read grey or colour digits as (N, C, 28, 28)."""
    image = read_idx(path)
    match tuple(image.shape[1:]):
        case (28, 28):
            return image[:, None]
        case (3, 28, 28):
            return image
        case (28, 28, 3):
            return image.permute(0, 3, 1, 2).contiguous()
    raise InputError(f"{path}: the shape is {' x '.join(map(str, image.shape))}; "
                     "allowed: N x 28 x 28, N x 3 x 28 x 28, N x 28 x 28 x 3")


def _read_digits(path: Path, count: int) -> Tensor:
    """Read one label from 0 to 9 for each image."""
    digit = read_idx(path)
    if digit.shape != (count,):
        raise InputError(f"{path}: {' x '.join(map(str, digit.shape))} labels for {count} images")
    if (digit > 9).any():
        raise InputError(f"{path}: label {digit.max().item()}; allowed: 0 to 9")
    return digit.long()


def _order_rows(path: Path, rows: Sequence[Row], count: int) -> list[Row]:
    """Return the rows in the order of their ``index``, having checked that it names every image once."""
    if rows and "index" not in rows[0].cells:
        raise InputError(f"{path}: no column 'index'; the columns are {', '.join(rows[0].cells)}")
    if len(rows) != count:
        raise InputError(f"{path}: {len(rows)} rows for {count} images")
    by_index: dict[int, Row] = {}
    for row, index in zip(rows, read_column(path, rows, "index", whole=True)):
        if not 0 <= index < count:
            raise InputError(f"{path}, line {row.line}: index {index}; allowed: 0 to {count - 1}")
        first = by_index.setdefault(index, row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: index {index} is already on line {first.line}")
    return [by_index[index] for index in range(count)]


def _read_number(path: Path, line: int, column: str, text: str, whole: bool) -> int | float:
    """Turn one cell into a number that fits float32, or a whole number that fits a double."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) <= torch.finfo(torch.float32).max:  # also false for NaN
        raise InputError(f"{path}, line {line}, column {column!r}: {text!r} is not a finite number")
    if not whole:
        return number
    if not number.is_integer() or abs(number) > 2**53:
        raise InputError(f"{path}, line {line}, column {column!r}: {text!r} is not a whole number")
    return int(number)
