"""The true counterfactuals of data sets that were drawn."""

from pathlib import Path

import pytest
import torch

from dscm.data.phantoms.layouts import Recipe, write_set
from dscm.data.sets import DataSet, Source, get_data_set
from dscm.errors import InputError
from dscm.graphs import get_graph

SET = {"celebahq": "Eyeglasses", "embed": "triangle marker"}


@pytest.fixture(scope="module", params=SET)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """A set of 40 drawn images."""
    folder = tmp_path_factory.mktemp(request.param)
    write_set(folder, Recipe(request.param, 40, 3))
    return get_data_set(get_graph(request.param), Source(folder, tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("size", [64, 48])
def test_truth_under_the_factual_attributes_is_the_image_itself(drawn: DataSet, size: int) -> None:
    """To the byte, also resized; so the index of every image is right."""
    data, truth = drawn.load("test", size), drawn.truth()
    assert len(data["image"]) > 2
    assert torch.equal(truth.draw(data, data), data["image"])


def test_truth_under_an_intervention_changes_a_part(drawn: DataSet) -> None:
    """Every image changes, and most of its pixels do not."""
    name = SET[drawn.graph.name]
    data, truth = drawn.load("test", 64), drawn.truth()
    assert name in truth.known
    changed = (truth.draw(data, data | {name: 1 - data[name]}) != data["image"]).any(dim=1).flatten(1)
    assert changed.any(dim=1).all() and changed.float().mean() < 0.5


def test_splits_differ_and_have_every_attribute(drawn: DataSet) -> None:
    train, test = (drawn.load(split, 64) for split in ("train", "test"))
    assert not set(train["index"].tolist()) & set(test["index"].tolist())
    assert {variable.name for variable in drawn.graph.attributes} <= train.keys()


def test_photographs_have_no_truth_and_need_a_folder(tmp_path: Path) -> None:
    graph = get_graph("celebahq")
    assert get_data_set(graph, Source(tmp_path, tmp_path)).truth() is None
    with pytest.raises(InputError, match="data celebahq: give the folder of the data set with data_dir"):
        get_data_set(graph, Source(None, tmp_path)).load("test", 64)
