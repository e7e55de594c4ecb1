"""Diff-SCM: its classifier steers, and it guides one class."""

import pytest
import torch

from dscm.baselines.diffscm import DiffSCM
from dscm.errors import InputError
from tests.support.image_mechanisms import PARENTS, SIZE, SMALL, UNET, make, observe


def test_the_classifier_steers_towards_its_class() -> None:
    """One step of guidance raises the class's probability at that noise level."""
    model, obs = make("diffscm"), observe(4)
    t, wanted = torch.full((4,), 300.0, dtype=torch.float64), torch.tensor([1, 2, 3, 4])
    x = obs["image"]
    with torch.no_grad():
        free, steered = (model._guided(wanted, scale)(x, t) for scale in (0.0, 1.0))
        assert torch.allclose(free, model.eps(x, t))
        before, after = (
            model.classifier(y, t).log_softmax(1).gather(1, wanted[:, None]) for y in (x, x - 1e-3 * (steered - free))
        )
    assert (after > before).all()


def test_diffscm_takes_one_class() -> None:
    with pytest.raises(
        InputError, match="diffscm guides one class; the image's parents are thickness, intensity, digit"
    ):
        DiffSCM(PARENTS, 1, SIZE, **UNET, classifier={**SMALL, "patch": 1})
