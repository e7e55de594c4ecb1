"""Batches that fit: how large they get before memory runs out."""

import argparse

import pytest
import torch
from dscm.cli.batch import batch_size, choose_batch, fit_batch

from dscm.causal.graph_file import get_graph

SCM = get_graph("morphomnist").scm()


@pytest.mark.parametrize(("fits", "chosen"), [(0, 1), (1, 1), (100, 64), (64, 64), (10**9, 4096)])
def test_doubles_until_memory_runs_out(fits: int, chosen: int) -> None:
    tried = []

    def work(n: int) -> None:
        tried.append(n)
        if n > fits:
            raise torch.cuda.OutOfMemoryError

    assert fit_batch(work) == chosen
    assert tried == [2**k for k in range(1, len(tried) + 1)]


def test_a_number_is_taken_and_a_cpu_has_its_own() -> None:
    one = {"image": torch.zeros(1, 1, 4, 4)}
    assert choose_batch(7, SCM, one, 0, 1) == 7
    assert choose_batch("auto", SCM, one, 0, 1) == 64
    assert batch_size("auto") == "auto" and batch_size("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        batch_size("0")
