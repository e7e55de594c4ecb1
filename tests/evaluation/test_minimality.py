"""The counterfactual latent divergence: by hand, and of a model that changes nothing."""

import math

import pytest
import torch

from dscm.evaluation.minimality import latent_divergence, mean_difference

X = torch.tensor([[0.0], [1.0], [3.0], [10.0], [11.0], [14.0]], dtype=torch.float64)  # one feature of six images
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1])


def score(new: float, old: float) -> float:
    """Weigh the two shares."""
    return math.log(0.8 * math.exp(new) + 0.2 * math.exp(old))


def test_unchanged_images_score_295() -> None:
    """None of the new value is as near, and all of the old value are as far: ln(0.8 + 0.2e)."""
    divergence = latent_divergence(X, X, 1 - GROUPS, GROUPS)
    assert divergence.tolist() == pytest.approx(6 * [math.log(0.8 + 0.2 * math.e)])
    assert divergence[0].item() == pytest.approx(0.295, abs=5e-4)


def test_divergence_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first image moves from 0 to 11: two of {10, 11, 14} are as near, none of {0, 1, 3} as far.

    The second from 1 to 3: none and {3}; the fourth from 10 to 0: all of {0, 1, 3} but 0 lie nearer than 10, 0 just
    as near; and none of {10, 11, 14} lies 10 away. In a tiny chunk the same.
    """
    counterfactual = torch.tensor([[11.0], [3.0], [3.0], [0.0], [11.0], [14.0]], dtype=torch.float64)
    expected = [score(2 / 3, 0), score(0, 1 / 3), score(0, 1), score(1, 0), score(0, 1), score(0, 1)]
    for elements in (1, 2**22):
        monkeypatch.setattr("dscm.evaluation.minimality.ELEMENTS", elements)
        divergence = latent_divergence(counterfactual, X, 1 - GROUPS, GROUPS)
        assert divergence.tolist() == pytest.approx(expected)


def test_group_that_no_image_has_is_unknown() -> None:
    divergence = latent_divergence(X, X, torch.tensor([5, 1, 1, 0, 0, 0]), GROUPS)
    assert divergence.isnan().tolist() == [True] + 5 * [False]


def test_mean_difference_of_features() -> None:
    r, x = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert mean_difference(r[None], x[:, None]).tolist() == [[1.5, 2.0]]
