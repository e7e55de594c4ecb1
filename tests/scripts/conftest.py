"""What the tests of the scripts share."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dscm.evaluation import lpips
from tests.support.in_two import InTwo
from tests.support.scripts import FAST, MACHINE, TrainingRun, copy_digits

TRAIN = ("--mechanism", "spatial", "--patch", 4, "--batch", 8, "--steps", 4, "--set", "save_every=2")
SETTINGS = ("--n", 5, "--steps", 1, "--guidance", 3, "--batch", 3)
QUERY = ("--do", "thickness=5", "--batch", 2, *FAST)


@pytest.fixture(scope="session", autouse=True)
def one_alexnet() -> Iterator[None]:
    """Load AlexNet once for all evaluations of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dscm.evaluation.runner.load_lpips", functools.cache(lpips.load_lpips))
        yield


@pytest.fixture(scope="session", autouse=True)
def in_two(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data_arguments: tuple[Any, ...]
) -> Iterator[InTwo | None]:
    """Start the three scripts in two processes beside the first tests of the scripts, if their outcome is tested.

    Of the three digits and a last file that is none, the second batch of two has one image. The refusal comes last,
    since it leaves the other process waiting.
    """
    if not any("test_processes.py" in item.nodeid for item in request.session.items):
        yield None
        return
    run: TrainingRun = request.getfixturevalue("spatial_run")
    images = three_digits(tmp_path_factory.mktemp("digits"))
    commands = {
        "train": ("train.py", *TRAIN, *data_arguments, *MACHINE),
        "query": ("counterfactual.py", images, *QUERY),
        "evaluate": ("evaluate.py", "--checkpoint", run.checkpoint, *SETTINGS, *data_arguments, *MACHINE),
        "keep": ("counterfactual.py", images, *QUERY, "--save-noise", images.parent / "noise.zip"),
    }
    started = InTwo(tmp_path_factory.mktemp("shared"), commands)
    yield started
    started.process.kill()


def three_digits(folder: Path) -> Path:
    """Copy three digits, and make a file that is no image."""
    copy_digits(folder, ["a.png", "b.png", "sub/c.png"], attributes=False)
    (folder / "empty.png").touch()
    return folder
