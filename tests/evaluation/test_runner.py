"""What an evaluation takes and checks before it measures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dscm.errors import InputError
from dscm.evaluation.runner import Evaluation, check_oracle
from dscm.graphs import get_graph
from dscm.machine import Machine


def load(exact: bool, n: int) -> dict[str, Any]:
    """Load the first n of 5 test images."""
    images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    evaluation: Any = SimpleNamespace(
        settings=SimpleNamespace(n=n, split="test"),
        machine=Machine(torch.device("cpu")),
        exact=exact,
        data_set=SimpleNamespace(load=lambda split, size: {"image": images}),
        model=SimpleNamespace(mechanism=SimpleNamespace(shape=(1, 8, 8))),
    )
    return Evaluation._load(evaluation)


def test_the_default_takes_what_there_is_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A number that was chosen is refused instead."""
    assert len(load(exact=False, n=512)["image"]) == 5
    assert capsys.readouterr().err == "the test split has 5 images; all are taken\n"
    assert len(load(exact=True, n=3)["image"]) == 3 and not capsys.readouterr().err
    with pytest.raises(InputError, match="n 6: the test split has 5 images"):
        load(exact=True, n=6)


def test_an_oracle_of_a_constant_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = SimpleNamespace(path=Path("oracle.pt"))
    model: Any = SimpleNamespace(graph=get_graph("morphomnist"), require_oracle=lambda: 1, oracle_checkpoint=checkpoint)
    for score in (float("nan"), 0.95, 0.5):
        monkeypatch.setattr(
            "dscm.evaluation.runner.score_oracle", lambda *_, score=score: {"test accuracy digit": score}
        )
        if score == 0.5:
            with pytest.raises(InputError, match="oracle oracle.pt: its accuracy of digit on these 2 images is 0.500"):
                check_oracle(model, {"image": torch.zeros(2)}, 0.9)
        else:
            check_oracle(model, {"image": torch.zeros(2)}, 0.9)
    assert capsys.readouterr().err == "digit is constant on these images: the oracle's accuracy is unknown\n"
