"""What the tests of the scripts share: tiny data, ways to run a script as a user does, and runs made once."""

import csv
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from dscm import assets
from dscm.data.images import find_images, read_attributes, read_image
from dscm.data.morphomnist.idx import write_idx

ROOT = Path(__file__).parent.parent
MACHINE = ("--device", "cpu", "--threads", 1)
FAST = ("--steps", 3, *MACHINE)  # of counterfactual.py

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run what trains for many minutes")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: trains for many minutes; run with --slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="trains for many minutes; run with --slow"))


@dataclass(frozen=True)
class TrainingRun:
    """A finished run of train.py: its folder, the settings it was given, and what it printed."""

    folder: Path
    settings: tuple
    stdout: str

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"


@pytest.fixture(scope="session")
def start_script() -> Callable[..., subprocess.Popen]:
    """Start `python NAME ARGS…` in the repository and return the process."""

    def start(*command: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    return start


@pytest.fixture(scope="session")
def train_script(start_script: Callable[..., subprocess.Popen]) -> Callable[..., subprocess.CompletedProcess]:
    """Run `python train.py ARGS…` to its end, however long it takes."""

    def run(*command: object) -> subprocess.CompletedProcess:
        process = start_script("train.py", *command)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="session")
def run_script(start_script: Callable[..., subprocess.Popen]) -> Callable[..., subprocess.CompletedProcess]:
    """Run `python NAME ARGS…` in the repository to its end."""

    def run(*command: object) -> subprocess.CompletedProcess:
        process = start_script(*command)
        try:
            stdout, stderr = process.communicate(timeout=300)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="session")
def share_script(run_script: Callable[..., subprocess.CompletedProcess]) -> Callable[..., subprocess.CompletedProcess]:
    """Run `torchrun --nproc-per-node 2 -- NAME ARGS…` to its end."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--")
    return lambda *command: run_script(*launch, *command)


@pytest.fixture
def call_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., subprocess.CompletedProcess]:
    """Run a script inside this process, which spares the seconds of starting one."""

    def call(name: str, *args: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        code = 0
        try:
            runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return subprocess.CompletedProcess((name, *args), code, printed.out, printed.err)

    return call


@pytest.fixture
def refuse(call_script: Callable[..., subprocess.CompletedProcess]) -> Callable[..., str]:
    """Run a script inside this process, check that it refuses its input properly, and return the error's line."""

    def call(name: str, *args: object) -> str:
        done = call_script(name, *args)
        assert done.returncode == 2
        return the_error(done.stderr)

    return call


def the_error(stderr: str) -> str:
    """Check that standard error is one line `error: …`, or argparse's usage and then one, and return that line."""
    lines = [line for line in re.split(r"[\r\n]+", stderr) if line]
    assert lines, "nothing on standard error"
    if lines[0].startswith("usage: "):
        assert re.match(r"\w+\.py: error: ", lines[-1]), stderr
        assert sum("error: " in line for line in lines) == 1, stderr
    else:
        assert len(lines) == 1 and lines[0].startswith("error: "), stderr
    return lines[-1]


def copy_digits(folder: Path, names: list[str], attributes: bool = True) -> Path:
    """Copy the first bundled digits under other names, with their rows of attributes.csv."""
    with open(assets.DIGITS / "attributes.csv", newline="") as file:
        rows = list(csv.DictReader(file))[: len(names)]
    for name, row in zip(names, rows):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(assets.DIGITS / row["image"]) as image:
            image.save(folder / name)
        row["image"] = name
    if attributes:
        write_table(folder, rows)
    return folder


def write_table(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write attributes.csv."""
    with open(folder / "attributes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six digits with their attributes."""
    return copy_digits(tmp_path_factory.mktemp("digits"), [f"{i}.png" for i in range(6)])


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of raw MNIST made of the bundled digits: 48 to train on, and 24 to test on."""
    folder = tmp_path_factory.mktemp("mnist")
    paths = find_images(assets.DIGITS)
    names = [path.as_posix() for path in paths]
    digit = read_attributes(assets.DIGITS / "attributes.csv", names, ["digit"], ["digit"])["digit"]
    image = torch.cat([read_image(assets.DIGITS / path, 28, 1) for path in paths])
    for split, part in (("train", slice(0, 48)), ("t10k", slice(40, 64))):
        write_idx(folder / f"{split}-images-idx3-ubyte", image[part])
        write_idx(folder / f"{split}-labels-idx1-ubyte", digit[part].to(torch.uint8))
    return folder


@pytest.fixture(scope="session")
def data_arguments(mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """`--data-dir` and `--cache-dir` of the tiny data."""
    return "--data-dir", mnist_folder, "--cache-dir", tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def train(run_script: Callable[..., subprocess.CompletedProcess], data_arguments: tuple) -> Callable[..., TrainingRun]:
    """Run train.py on the tiny data with a batch of 8, and check that it succeeds."""

    def run(folder: Path, *settings: object) -> TrainingRun:
        done = run_script("train.py", "--out", folder, "--batch", 8, *settings, *data_arguments, *MACHINE)
        assert done.returncode == 0, done.stderr
        return TrainingRun(folder, settings, done.stdout)

    return run


@pytest.fixture(scope="session")
def spatial_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A spatial mechanism; enough steps that a second such run can be killed halfway."""
    return train(tmp_path_factory.mktemp("spatial"), "--mechanism", "spatial", "--steps", 32, "--save-every", 4)


@pytest.fixture(scope="session")
def semantic_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A semantic mechanism."""
    settings = ("--mechanism", "semantic", "--steps", 6, "--save-every", 3)
    return train(tmp_path_factory.mktemp("semantic"), *settings)


@pytest.fixture(scope="session")
def oracle_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """An oracle, stopped between two checkpoints."""
    return train(tmp_path_factory.mktemp("oracle"), "--part", "oracle", "--steps", 6, "--save-every", 4)


@pytest.fixture(scope="session")
def colour_run(train: Callable[..., TrainingRun], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A semantic mechanism with the paper's prior, of another graph with colour images, and a grid of samples."""
    settings = ("--data", "colour-morphomnist", "--mechanism", "semantic", "--prior", "standard")
    return train(tmp_path_factory.mktemp("colour"), *settings, "--steps", 6, "--save-every", 3, "--sample-every", 6)
