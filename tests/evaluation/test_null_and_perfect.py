"""A mechanism that changes nothing and one that returns the truth get in every column the scores that they deserve."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dscm import assets
from dscm.checkpoint import restore_oracle
from dscm.data.sets import Source, get_data_set
from dscm.evaluation.records import IMAGE, Record
from dscm.evaluation.runner import Evaluation
from dscm.evaluation.statistics import CHANGED
from dscm.evaluation.task import Task, set_task
from dscm.graphs import get_graph
from tests.support.references import Null, Perfect, as_model

N, GRAPH = 10, get_graph("morphomnist")
DRAWN = {"thickness": 0.1, "intensity": 2.0, "slant": 0.01}  # px, grey levels, rad: how exactly a digit is redrawn
UNCHANGED_CLD = math.log(0.8 + 0.2 * math.e)  # minimality of the observation itself, .295


@dataclass(frozen=True)
class Scores:
    """The record of one mechanism, the numbers of every image by their path, and what was asked of them."""

    record: Record
    values: dict[tuple[str, ...], Tensor]
    task: Task

    def target(self, do: str) -> dict[str, Tensor]:
        """Return the counterfactual attributes under an intervention."""
        return GRAPH.scm().counterfactual(self.task.obs, self.task.interventions[do])


@pytest.fixture(scope="module")
def measure(
    mnist_folder: Path, data_arguments: tuple[Any, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[type], Scores]:
    """Evaluate one of the two on the first digits of the tiny test split."""
    source = Source(mnist_folder, data_arguments[3])
    data = {name: value[:N] for name, value in get_data_set(GRAPH, source).load("test", 28).items()}
    oracle = restore_oracle(assets.find("oracle", GRAPH), torch.device("cpu"))

    def run(kind: type) -> Scores:
        mechanism = kind(GRAPH, data)
        evaluation = Evaluation([as_model(mechanism, GRAPH, oracle)], {"n": N}, source)
        records = evaluation.run(tmp_path_factory.mktemp(mechanism.kind))
        (record,) = records.records
        values = {tuple(k.split("/")): v for k, v in records.values(record).items() if not k.startswith(IMAGE)}
        return Scores(record, values, set_task(GRAPH, data, "marginal", 0))

    return run


@pytest.fixture(scope="module")
def null(measure: Callable[[type], Scores]) -> Scores:
    """The scores of what changes nothing."""
    return measure(Null)


@pytest.fixture(scope="module")
def perfect(measure: Callable[[type], Scores]) -> Scores:
    """The scores of the truth."""
    return measure(Perfect)


def errors(scores: Scores, column: str) -> Iterator[tuple[str, str, Tensor]]:
    """Yield intervention, attribute and error of each image, after a check of those over the changed images."""
    for path, value in scores.values.items():
        if path[0] == column and path[-1] in ("mae", "accuracy"):
            _, do, attribute, metric = path
            changed = scores.task.changed(do).float()
            over = scores.values[column, do, attribute, CHANGED + metric]
            torch.testing.assert_close(over, torch.stack([value * changed, changed], dim=1).to(over))
            yield do, attribute, value


def check_null(scores: Scores, path: tuple[str, ...]) -> None:
    """Check a column of the mechanism that changes nothing."""
    value, column, metric = scores.values[path].double(), path[0], path[-1]
    if column in ("composition", "reversibility", "identity"):
        assert value.abs().max() < 1e-6
    elif column == "truth" and metric == "l1":
        assert torch.equal(value, scores.values[(*path[:-1], "factual_l1")].double()) and value.mean() > 0.01
    elif column == "realism":
        assert torch.equal(value, scores.values[column, "observation", metric].double())
    elif column == "minimality":
        assert (value[:, 0].sum() / value[:, 1].sum()).item() == pytest.approx(UNCHANGED_CLD, abs=0.06)
    elif column == "trust" and metric == "wrong":  # it misses every digit; what is near a number nothing says here
        assert torch.equal(value, scores.task.changed("digit").double() * (path[1] == "digit"))
    else:
        check_either(scores, path)


def check_perfect(scores: Scores, path: tuple[str, ...]) -> None:
    """Check a column of the truth: it composes and reverses to the observed digit as the generator draws it."""
    value, column, metric = scores.values[path].double(), path[0], path[-1]
    floor = scores.values["truth", "thickness", "floor_l1"].double()
    if column in ("composition", "reversibility") and metric.startswith("l1"):
        torch.testing.assert_close(value, floor[:, None], rtol=0, atol=1e-3)
    elif column == "truth" and metric == "l1":
        assert value.max() < 1e-4
    elif column == "identity" and metric == "factual_l1":
        expected = scores.values.get(("truth", path[1], metric), value).double()
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-4)
        assert value.mean() > 0.01
    elif column == "identity" and metric == "l1":  # to the composition, which is as far from the observation as that
        factual = scores.values[(*path[:-1], "factual_l1")].double()
        assert ((value - factual).abs() <= floor + 1e-3).all() and not torch.allclose(value, factual)
    elif column == "effectiveness" and path[1] in GRAPH.measured:
        torch.testing.assert_close(value, scores.values[("ceiling", *path[1:])].double(), rtol=0, atol=1e-4)
    elif column == "trust" and metric == "wrong":
        assert value.max() == 0
    elif column == "minimality":
        assert 0 <= (value[:, 0].sum() / value[:, 1].sum()).item() <= 1
    else:
        check_either(scores, path)


def check_either(scores: Scores, path: tuple[str, ...]) -> None:
    """Check what does not depend on the mechanism; a column that nobody checks fails here."""
    value, column, metric = scores.values[path].double(), path[0], path[-1]
    if column == "oracle":
        assert (value == (1 if metric == "accuracy" else 0)).all()  # the recorded attributes are the measured ones
    elif column == "truth":
        assert metric in ("factual_l1", "floor_l1") and value.mean() > 0
    elif column == "trust":
        assert value.isfinite().all()
    elif column == "foresight":  # of a measure that is constant it says nothing
        assert value.isnan().all() or value.abs().max() <= 1 + 1e-9
    else:
        assert column in ("seconds", "effectiveness", "ceiling", "realism", "composition", "reversibility", "identity")


@pytest.mark.parametrize(("name", "check"), [("null", check_null), ("perfect", check_perfect)])
def test_every_column(name: str, check: Callable, request: pytest.FixtureRequest) -> None:
    """Of every image; no column is left out."""
    scores: Scores = request.getfixturevalue(name)
    columns = {path[0] for path in scores.values}
    for column in ("composition", "reversibility", "effectiveness", "identity", "truth", "ceiling", "oracle"):
        assert column in columns
    for path in scores.values:
        check(scores, path)


def test_what_changes_nothing_has_the_attributes_of_the_observation(null: Scores) -> None:
    """So its error is the change that was asked for, in every attribute under every intervention."""
    found = {(do, attribute): value for do, attribute, value in errors(null, "effectiveness")}
    assert len(found) == 16
    for (do, attribute), value in found.items():
        target, observed = null.target(do)[attribute], null.task.obs[attribute]
        expected = (target == observed).float() if attribute == "digit" else (target - observed).abs()
        torch.testing.assert_close(value, expected)


def test_the_truth_has_the_attributes_that_were_asked_for(perfect: Scores) -> None:
    """As exactly as the generator draws; so have the true images, and the drawings of other digits."""
    for column in ("effectiveness", "ceiling"):
        for _, attribute, value in errors(perfect, column):
            assert (value == 1).all() if attribute == "digit" else value.max() < DRAWN[attribute]


def test_accuracy_of_changed_images_is_none_or_all(null: Scores, perfect: Scores) -> None:
    """While over all images a permutation leaves some digits that nobody has to change."""
    summary = [scores.record.metrics["effectiveness"]["digit"]["digit"] for scores in (null, perfect)]
    assert [row[CHANGED + "accuracy"] for row in summary] == [0, 1]
    unchanged = 1 - null.task.changed("digit").float().mean().item()
    assert 0 < unchanged < 0.5 and [row["accuracy"] for row in summary] == pytest.approx([unchanged, 1])


def test_both_keep_the_digit_unless_it_is_asked_for(null: Scores, perfect: Scores) -> None:
    """As the true images do."""
    for scores in (null, perfect):
        for column in ("effectiveness", "ceiling"):
            for do, found in scores.record.metrics[column].items():
                assert found["digit"]["kept"] == 1 or do == "digit"


def test_each_fails_the_checks_of_the_other(null: Scores, perfect: Scores) -> None:
    """So the checks can fail."""
    for scores, check in ((null, check_perfect), (perfect, check_null)):
        with pytest.raises(AssertionError):
            for path in scores.values:
                check(scores, path)
