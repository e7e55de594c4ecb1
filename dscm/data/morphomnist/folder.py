"""A Morpho-MNIST folder: digits in IDX files and their attributes in a CSV file with a column ``index``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dscm.data.morphomnist.idx import find_idx, read_idx, write_idx
from dscm.data.table import Row, Table, read_csv, read_integers, read_numbers, write_csv
from dscm.errors import InputError

File = Literal["train", "t10k"]


def is_morpho_folder(folder: Path | str) -> bool:
    """Tell whether a folder, which need not exist, has the CSV file of a split."""
    return any((Path(folder) / f"{split}-morpho.csv").is_file() for split in ("train", "t10k"))


def read_split(
    folder: Path | str,
    split: File,
    attributes: Sequence[str],
    measure: Callable[[Tensor], dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Read the images, digits and attributes of one split; the rows of the CSV file may be in any order.

    Args:
        folder: the folder.
        split: ``train`` or ``t10k``.
        attributes: the attributes to read.
        measure: called once with all images, uint8 (N, C, 28, 28), if the CSV file lacks an attribute.

    Returns:
        ``image`` uint8 (N, C, 28, 28), ``digit`` int64 (N,), and each attribute float32 (N,).

    Raises:
        InputError: a file is missing or damaged, counts disagree, or an attribute is neither in the CSV file nor
            measured.

    Source: Castro et al. 2019, Morpho-MNIST, https://github.com/dccastro/Morpho-MNIST.
    """
    folder = Path(folder)
    image = read_images(find_idx(folder, f"{split}-images-idx3-ubyte"))
    digit = read_digits(find_idx(folder, f"{split}-labels-idx1-ubyte"), len(image))
    path = folder / f"{split}-morpho.csv"
    table = read_csv(path)
    rows = _order_rows(table, len(image))
    columns = {name: column for name in attributes if (column := table.find(name))}
    values = {
        name: torch.tensor(read_numbers(path, rows, column), dtype=torch.float32) for name, column in columns.items()
    }
    missing = [name for name in attributes if name not in columns]
    measured = measure(image) if missing and measure else {}
    for name in missing:
        if name not in measured:
            raise table.lacks(name)
        values[name] = measured[name].to("cpu", torch.float32)
    return {"image": image, "digit": digit, **{name: values[name] for name in attributes}}


def write_split(folder: Path | str, split: File, data: Mapping[str, Tensor]) -> None:
    """Write one split so that `read_split` reads it back exactly.

    Args:
        folder: created if missing. It must not hold plain IDX files of this split, which `read_split` would prefer.
        split: ``train`` or ``t10k``.
        data: ``image`` uint8 (N, C, 28, 28), ``digit`` int64 (N,), and attributes (N,).

    Raises:
        ValueError: the images are not uint8, or the lengths of the attributes differ.
    """
    attributes = {name: values.tolist() for name, values in data.items() if name not in ("image", "digit")}
    stem = Path(folder) / split
    write_idx(f"{stem}-images-idx3-ubyte.gz", data["image"].squeeze(1))
    write_idx(f"{stem}-labels-idx1-ubyte.gz", data["digit"].to(torch.uint8))
    write_csv(Path(f"{stem}-morpho.csv"), {"index": range(len(data["image"])), **attributes})


def read_images(path: Path) -> Tensor:
    """Read grey or colour digits, uint8 (N, C, 28, 28)."""
    image = read_idx(path)
    match tuple(image.shape[1:]):
        case (28, 28):
            return image[:, None]
        case (3, 28, 28):
            return image
        case (28, 28, 3):
            return image.permute(0, 3, 1, 2).contiguous()
    raise InputError(
        f"{path}: the shape is {' x '.join(map(str, image.shape))}; "
        "allowed: N x 28 x 28, N x 3 x 28 x 28, N x 28 x 28 x 3"
    )


def read_digits(path: Path, count: int) -> Tensor:
    """Read one class from 0 to 9 for each image, int64 (count,)."""
    digit = read_idx(path)
    if digit.shape != (count,):
        raise InputError(f"{path}: {' x '.join(map(str, digit.shape))} labels for {count} images")
    if (digit > 9).any():
        raise InputError(f"{path}: label {digit.max().item()}; allowed: 0 to 9")
    return digit.long()


def _order_rows(table: Table, count: int) -> list[Row]:
    """Sort the rows by ``index``, which must name each image exactly once."""
    path, rows, column = table.path, table.rows, table.require("index")
    if len(rows) != count:
        raise InputError(f"{path}: {len(rows)} rows for {count} images")
    by_index: dict[int, Row] = {}
    for row, index in zip(rows, read_integers(path, rows, column)):
        if not 0 <= index < count:
            raise InputError(f"{path}, line {row.line}: index {index}; allowed: 0 to {count - 1}")
        first = by_index.setdefault(index, row)
        if first is not row:
            raise InputError(f"{path}, line {row.line}: index {index} is already on line {first.line}")
    return [by_index[index] for index in range(count)]
