"""The oracle: what it sees of an image, and what it reports of a batch."""

import torch

from dscm.causal.graph_file import get_graph
from dscm.oracle import Oracle
from tests.support.networks import F64, randn, scatter

DIGIT = next(variable for variable in get_graph("morphomnist").attributes if variable.name == "digit")


def test_oracle_sees_the_brightest_channel_relative_to_its_maximum() -> None:
    """Tint and brightness drop out to rounding; a black image is no division by zero."""
    torch.manual_seed(0)
    oracle = scatter(Oracle([DIGIT], 3, channels=8, strokes=True))
    drawing = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=F64)
    expected = oracle.logits(2 * drawing - 1)["digit"]
    tints = torch.tensor([[1.0, 0.4, 0.0], [0.4, 0.0, 1.0], [0.0, 1.0, 0.4], [1.0, 1.0, 0.0]], dtype=F64)
    tints = tints[:, :, None, None]
    motley = torch.stack([drawing[:, 0], drawing[:, 0] * drawing[:, 0].flip(-1), drawing[:, 0] ** 2], dim=1)
    for other in (0.1 * drawing, 0.7 * drawing, tints * drawing, 0.5 * tints * drawing, motley):
        torch.testing.assert_close(oracle.logits(2 * other - 1)["digit"], expected, rtol=0, atol=1e-9)
    assert expected.std(0).min() > 0, "different drawings have different scores"
    assert oracle.logits(-torch.ones(1, 1, 28, 28, dtype=F64))["digit"].isfinite().all()


def test_oracle_reports_cross_entropy_and_accuracy() -> None:
    """Both by their definitions."""
    torch.manual_seed(0)
    oracle, x = scatter(Oracle([DIGIT], 3, channels=8, strokes=True)), randn(4, 1, 28, 28).clamp(-1, 1)
    guess = oracle.predict(x)["digit"]
    digit = torch.where(torch.arange(4) < 3, guess, (guess + 1) % 10)
    terms = oracle(x, {"digit": digit})
    assert terms["accuracy"].item() == 0.75
    log_probability = oracle.logits(x)["digit"].log_softmax(1)[torch.arange(4), digit]
    torch.testing.assert_close(terms["loss"], -log_probability.mean())
