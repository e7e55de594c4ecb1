"""Values of attributes as users write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dscm.causal.graph_file import parse
from dscm.causal.values import find_failures, find_outside, read_values
from dscm.errors import InputError
from dscm.graphs import get_graph

GRAPH = parse(
    {
        "variables": {
            "age": {"type": "bounded", "range": [0, 100]},
            "kind": {"type": "categorical", "values": ["disk", "cross"]},
            "stage": {"type": "categorical", "values": [1, 2, 3]},
            "weight": {"type": "continuous"},
            "dose": {"type": "positive"},
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
        ("stage", ["2", "3"], torch.tensor([1, 2])),
        ("stage", torch.tensor([1, 2]), torch.tensor([1, 2])),
        ("age", np.array([3, 4], np.uint16), torch.tensor([3.0, 4.0])),
        ("age", torch.tensor([3.5], requires_grad=True), torch.tensor([3.5])),
    ],
)
def test_numbers_and_labels(name: str, values: Any, expected: torch.Tensor) -> None:
    """One for all images, or one for each; classes are whole numbers."""
    result = read_values(GRAPH.variable(name), values)
    assert result.dtype == expected.dtype and torch.equal(result, expected) and not result.requires_grad
    assert not isinstance(values, torch.Tensor) or result.data_ptr() != values.data_ptr(), "a copy"


def test_hue_goes_around() -> None:
    hue = get_graph("colour-morphomnist").variable("hue")
    assert read_values(hue, [0.25, 1.25]).tolist() == [0.25, 1.25]
    for lost in (float("inf"), 1e30):  # float32 does not tell the angle
        with pytest.raises(InputError, match="hue="):
            read_values(hue, lost)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("age", 101, "age=101: must be 0 to 100"),
        ("age", [1, "old"], r"age=old: must be 0 to 100 \(image 00001\)"),
        ("age", torch.tensor([1, 2, torch.nan]), r"age=nan: must be 0 to 100 \(image 00002\)"),
        ("age", np.array([1, 2, -3]), r"age=-3: must be 0 to 100 \(image 00002\)"),
        ("age", torch.tensor(1j), "age=1j: must be 0 to 100"),
        ("age", np.array([None, 1, 2]), r"age=None: must be 0 to 100 \(image 00000\)"),
        ("age", torch.zeros(3, 1), r"age: values of shape \(3, 1\): must be one, or one for each image"),
        ("age", {"age": 1}, "age={'age': 1}: must be 0 to 100"),
        ("stage", 2, "stage=2: label '2' or class number 2"),
        ("stage", [1.0, 2.0, 3.0], "stage=1.0: label '1' or class number 1"),
        ("stage", torch.tensor([3, 0, 0]), r"stage=3: must be 1, 2, 3 \(image 00000\)"),
        ("age", None, "age=None: must be 0 to 100"),
        ("age", float("nan"), "age=nan: must be 0 to 100"),
        ("kind", "square", "kind=square: must be disk, cross"),
        ("kind", 2, "kind=2: must be disk, cross"),
        ("kind", 0.5, "kind=0.5: must be disk, cross"),
        ("weight", float("inf"), "weight=inf: must be any finite number"),
        ("weight", 1e39, "weight=1e\\+39: must be any finite number"),
        ("weight", 10**400, "weight=1000"),
        ("dose", 0, "dose=0: must be more than 0"),
        ("dose", 1e-60, "dose=1e-60: must be more than 0"),
        ("age", [1, 2], "age: 2 values for a batch of 3"),
    ],
)
def test_refused(name: str, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_values(GRAPH.variable(name), values, 3)


def test_what_is_written_reads_back_as_the_same_number() -> None:
    """In float32, in the shortest form; classes are labels."""
    age, kind = GRAPH.variable("age"), GRAPH.variable("kind")
    numbers = 100 * torch.rand(1_000, generator=torch.Generator().manual_seed(0))
    again = read_values(age, [age.show(number) for number in numbers.tolist()])
    assert torch.equal(again, numbers)
    short = {0.1: "0.1", 5.0: "5", 100.0: "100", 2e-7: "2e-07", torch.tensor(0.7).item(): "0.7"}
    assert [age.show(number) for number in short] == [*short.values()] and kind.show(2 - 1) == "cross"


def test_inside_agrees_with_contains() -> None:
    """A batch at a time or one by one, in every kind of domain."""
    values = [-1.0, 0.0, 0.5, 1.0, 100.0, 100.5, 1e39, float("inf"), float("-inf"), float("nan")]
    column = torch.tensor(values, dtype=torch.float64)
    inside = {"age": 5 - 1, "kind": 2, "stage": 2, "weight": 6, "dose": 4}
    for name, count in inside.items():
        variable = GRAPH.variable(name)
        assert variable.inside(column).tolist() == [variable.contains(value) for value in values]
        assert variable.inside(column).sum() == count


def test_what_is_outside_is_found_by_element() -> None:
    """The first reason of each; an image that is not finite comes before its attributes."""
    values = {"age": torch.tensor([1.0, 255.5, torch.nan]), "weight": torch.tensor([0.0, torch.inf, 1.0])}
    expected = {1: "age would be 255.5; allowed: 0 to 100", 2: "age would be nan; allowed: 0 to 100"}
    assert find_outside(GRAPH.attributes, values, "would be") == expected
    image = torch.zeros(3, 1, 2, 2)
    assert find_failures(GRAPH.attributes, {**values, "image": image}) == expected
    image[2, 0, 1, 1] = torch.inf
    assert find_failures(GRAPH.attributes, {**values, "image": image})[2] == "the image would not be finite"
