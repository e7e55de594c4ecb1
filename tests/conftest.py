"""Tiny data, and runs on it that are made once for all tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm import assets
from dscm.data.attributes import read_attribute_table
from dscm.data.images import read_image
from dscm.data.listing import find_images
from dscm.data.morphomnist.idx import write_idx
from dscm.graphs import get_graph
from tests.support import shapes
from tests.support.beside import Beside
from tests.support.scripts import MACHINE, TrainingRun, call_script, copy_digits, succeed

SMALL = ("--patch", 4)  # a mechanism that is several times as fast as the preset's

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run what trains for many minutes")


def pytest_configure(config: pytest.Config) -> None:
    if Beside.helps(config):
        config.pluginmanager.register(Beside("tests/scripts", config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="trains for many minutes; run with --slow"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six digits with their attributes."""
    return copy_digits(tmp_path_factory.mktemp("digits"), [f"{i}.png" for i in range(6)])


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of raw MNIST made of the bundled digits: 48 to train on, and 24 to test on."""
    folder = tmp_path_factory.mktemp("mnist")
    paths = find_images(assets.DIGITS)
    names = [path.as_posix() for path in paths]
    table = read_attribute_table(assets.DIGITS / "attributes.csv", names, [get_graph("morphomnist").variable("digit")])
    image = torch.cat([read_image(assets.DIGITS / path, 28, 1) for path in paths])
    for split, part in (("train", slice(0, 48)), ("t10k", slice(40, 64))):
        write_idx(folder / f"{split}-images-idx3-ubyte", image[part])
        write_idx(folder / f"{split}-labels-idx1-ubyte", table.values["digit"][part].to(torch.uint8))
    return folder


@pytest.fixture(scope="session")
def data_arguments(mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """`--data-dir` and `--cache-dir` of the tiny data."""
    return "--data-dir", mnist_folder, "--cache-dir", tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def train(data_arguments: tuple[Any, ...]) -> Callable[..., TrainingRun]:
    """Run train.py on the tiny data with a batch of 8, and check that it succeeds."""

    def run(folder: Path, *settings: object) -> TrainingRun:
        arguments = ("--out", folder, "--batch", 8, *settings, *data_arguments, *MACHINE)
        return TrainingRun(folder, settings, succeed(call_script("train.py", *arguments)).stdout)

    return run


@pytest.fixture(scope="session")
def spatial_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A spatial mechanism; enough steps that a second such run can be killed halfway."""
    return train(
        tmp_path_factory.mktemp("spatial"), "--mechanism", "spatial", *SMALL, "--steps", 32, "--set", "save_every=4"
    )


@pytest.fixture(scope="session")
def semantic_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A semantic mechanism."""
    settings = ("--mechanism", "semantic", *SMALL, "--steps", 6, "--set", "save_every=3")
    return train(tmp_path_factory.mktemp("semantic"), *settings)


@pytest.fixture(scope="session")
def oracle_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """An oracle, stopped between two checkpoints."""
    return train(tmp_path_factory.mktemp("oracle"), "--part", "oracle", "--steps", 6, "--set", "save_every=4")


@pytest.fixture(scope="session")
def colour_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A semantic mechanism with the paper's prior, of another graph with colour images, and a grid of samples."""
    settings = ("--data", "colour-morphomnist", "--mechanism", "semantic", *SMALL, "--set", "prior=standard")
    return train(
        tmp_path_factory.mktemp("colour"), *settings, "--steps", 6, "--set", "save_every=3", "--set", "sample_every=6"
    )


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 shapes in images/, and graph.json beside it."""
    folder = tmp_path_factory.mktemp("shapes")
    shapes.write_set(folder / "images", 60)
    return folder


@pytest.fixture(scope="session")
def shapes_run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every part of a model of the shapes, each trained for a step or two."""
    folder = tmp_path_factory.mktemp("run") / "run"
    for part, steps in (("attributes", 20), ("oracle", 2), ("image", 2)):
        graph = ("--graph", shapes_folder / "graph.json") if part == "attributes" else ()  # the others find it there
        brief = ("--part", part, "--steps", steps, "--batch", 8, "--run", folder, *graph)
        succeed(call_script("train.py", *brief, *shapes.arguments(shapes_folder)))
    return folder
