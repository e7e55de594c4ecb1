"""What the tests of the scripts share."""

import functools
from collections.abc import Iterator

import pytest

from dscm.evaluation import lpips


@pytest.fixture(scope="session", autouse=True)
def one_alexnet() -> Iterator[None]:
    """Load AlexNet once for all evaluations of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dscm.evaluation.runner.load_lpips", functools.cache(lpips.load_lpips))
        yield
