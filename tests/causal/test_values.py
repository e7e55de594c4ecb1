"""Values of attributes as users write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dscm.causal.graph_file import get_graph, parse
from dscm.causal.values import read_values
from dscm.errors import InputError

GRAPH = parse(
    {
        "variables": {
            "age": {"type": "bounded", "range": [0, 100]},
            "kind": {"type": "categorical", "values": ["disk", "cross"]},
            "stage": {"type": "categorical", "values": [1, 2, 3]},
            "image": {"type": "image", "size": 16, "channels": 1, "parents": ["age", "kind", "stage"]},
        }
    },
    Path("own.json"),
)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("age", 3, torch.tensor(3.0)),
        ("age", [3, 4.5], torch.tensor([3.0, 4.5])),
        ("age", np.array([3, 4]), torch.tensor([3.0, 4.0])),
        ("age", torch.tensor([3.5]), torch.tensor([3.5])),
        ("age", np.float32(3.5), torch.tensor(3.5)),
        ("kind", "cross", torch.tensor(1)),
        ("kind", ["cross", "disk", 1], torch.tensor([1, 0, 1])),
    ],
)
def test_numbers_and_labels(name: str, values: Any, expected: torch.Tensor) -> None:
    """One for all images, or one for each; classes are whole numbers."""
    result = read_values(GRAPH.variable(name), values)
    assert result.dtype == expected.dtype and torch.equal(result, expected)


def test_hue_goes_around() -> None:
    hue = get_graph("colour-morphomnist").variable("hue")
    assert read_values(hue, [0.25, 1.25]).tolist() == [0.25, 1.25]
    with pytest.raises(InputError, match="hue=inf"):
        read_values(hue, float("inf"))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("age", 101, "age=101: must be 0 to 100"),
        ("age", [1, "old"], "age=old: must be 0 to 100"),
        ("age", None, "age=None: must be 0 to 100"),
        ("age", float("nan"), "age=nan: must be 0 to 100"),
        ("kind", "square", "kind=square: must be disk, cross"),
        ("kind", 2, "kind=2: must be disk, cross"),
        ("kind", 0.5, "kind=0.5: must be disk, cross"),
        ("age", [1, 2], "age: 2 values for a batch of 3"),
    ],
)
def test_refused(name: str, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_values(GRAPH.variable(name), values, 3)
