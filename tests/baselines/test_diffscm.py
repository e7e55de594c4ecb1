"""Diff-SCM: its classifier steers, and it guides one class."""

import pytest
import torch

from dscm.baselines.diffscm import DiffSCM
from dscm.diffusion.process import ddim_step
from dscm.errors import InputError
from tests.support.image_mechanisms import PARENTS, SIZE, SMALL, UNET, make, observe


def test_the_classifier_steers_towards_its_class() -> None:
    """One step of guidance raises the class's probability at that noise level."""
    model, obs = make("diffscm").using(clamp=False), observe(4)
    t, wanted = torch.full((4,), 300.0, dtype=torch.float64), torch.tensor([1, 2, 3, 4])
    x = obs["image"]
    with torch.no_grad():
        free, steered = (model._guided(wanted, scale)(x, t) for scale in (0.0, 1.0))
        assert torch.allclose(free, model.eps(x, t))
        before, after = (
            model.classifier(y, t).log_softmax(1).gather(1, wanted[:, None]) for y in (x, x - 1e-3 * (steered - free))
        )
    assert (after > before).all()


def test_the_gradient_is_added_to_the_clamped_noise() -> None:
    """The clean image is clamped before the classifier moves it, so guidance may leave [-1, 1]."""
    model, obs = make("diffscm"), observe(4)
    t, wanted = torch.full((4,), 900.0, dtype=torch.float64), torch.tensor([1, 2, 3, 4])
    x, a = 3 * obs["image"], model.schedule.alpha_bar(torch.tensor(900.0))
    with torch.no_grad():
        clamped, steered = (model._guided(wanted, scale)(x, t) for scale in (0.0, 30.0))
        free, moved = (model.using(clamp=False)._guided(wanted, scale)(x, t) for scale in (0.0, 30.0))
    torch.testing.assert_close(steered - clamped, moved - free)
    torch.testing.assert_close(
        ddim_step(x, clamped, a, torch.ones_like(a)), ddim_step(x, free, a, torch.ones_like(a)).clamp(-1, 1)
    )
    assert ddim_step(x, free, a, torch.ones_like(a)).abs().max() > 1


def test_abduction_and_prediction_are_clamped() -> None:
    """Either, clamped, gives another result than unclamped."""
    model, obs = make("diffscm"), observe(4)
    plain = model.using(clamp=False)
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        assert not torch.allclose(noise, plain.abduct(obs["image"], obs))
        assert not torch.allclose(model.predict(noise, obs), plain.predict(noise, obs))


def test_diffscm_takes_one_class() -> None:
    with pytest.raises(
        InputError, match="diffscm guides one class; the image's parents are thickness, intensity, digit"
    ):
        DiffSCM(PARENTS, 1, SIZE, **UNET, classifier={**SMALL, "patch": 1})
