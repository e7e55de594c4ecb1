"""Groups of images that show the same thing under other attributes: a column of a data set's table."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dscm.data.table import Row, is_gap

GROUP = "group"  # the column, and the key of its numbers in the data


def read_groups(rows: Sequence[Row], column: str) -> Tensor:
    """Number the groups of images: those whose cells hold the same text show the same thing.

    Args:
        rows: the row of each image.
        column: the name of the column; an image whose cell is empty is a group of its own.

    Returns:
        int64 (N,); what the numbers are means nothing.
    """
    numbers: dict[str, int] = {}
    cells = (row.cells[column].strip() for row in rows)
    return torch.tensor([-1 - i if is_gap(cell) else numbers.setdefault(cell, i) for i, cell in enumerate(cells)])
