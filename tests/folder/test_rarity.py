"""Answers about rare values are counted, and told in a line."""

import math
from collections import Counter

import pytest
import torch

from dscm.causal.support import Support
from dscm.causal.variables import Variable
from dscm.folder.rarity import add_up, count_rare, describe_rare

X, Y = (Variable(name, "continuous", (), -math.inf, math.inf, "px") for name in "xy")
NAMES = ["a.png", "b.png", "c.png"]


@pytest.fixture(scope="module")
def support() -> Support:
    """Two values that are nearly the same."""
    x = torch.linspace(-1, 1, 301)
    return Support.fit((X, Y), {"x": x, "y": x + 0.01 * x.mul(70).sin()}, torch.Generator().manual_seed(0))


def test_rare_answers_are_counted_by_what_is_odd(support: Support) -> None:
    """Beyond a range, or in company; one that is refused is none, and without a support nothing is known."""
    usual, far = torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([-0.5, 9.0, 9.0])
    answers = {"x=9": {"x": far, "y": usual}, "y=0": {"x": usual, "y": torch.zeros(3)}, "x=y": {"x": usual, "y": usual}}
    counts = count_rare(support, NAMES, answers, {"c.png": {"x=9": "no"}})
    assert counts.keys() == {"x=9", "y=0"}
    assert counts["x=9"] == {"x, beyond -1 to 1 px": 1} and counts["y=0"].total() == 2
    assert {what.partition(" ")[2] for what in counts["y=0"]} == {"given the others"}
    again = count_rare(support, NAMES, answers, {}, done={"b.png"})
    assert again["x=9"].total() == 1, "an answer of an earlier command is none of this one"
    assert count_rare(None, NAMES, answers, {}) == {}


def test_lines_name_what_is_mostly_odd() -> None:
    """Of all batches and processes."""
    parts = [{"x=9": Counter({"x": 1, "y": 1})}, {}, {"x=9": Counter({"x": 2}), "y=0": Counter({"y": 1})}]
    counts = add_up(parts)
    assert counts == {"x=9": {"x": 3, "y": 1}, "y=0": {"y": 1}}
    assert describe_rare(counts, 7) == [
        "x=9: 4 of 7 answers are about values rarer than 99% of the training data, mostly of x",
        "y=0: 1 of 7 answers are about values rarer than 99% of the training data, mostly of y",
    ]
    assert describe_rare({}, 7) == []
