"""Terms of the training objective."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.objective import mean_where, reread
from dscm.diffusion.process import linear_schedule
from tests.support.networks import F64, PARENTS, X, make, randn

SCHEDULE = linear_schedule()


def test_mean_where_is_the_mean_of_the_chosen() -> None:
    values, mask = randn(6), torch.tensor([True, False, True, False, False, True])
    torch.testing.assert_close(mean_where(values, mask), values[mask].mean())
    assert mean_where(values, torch.zeros(6, dtype=torch.bool)).isnan()


def test_reread_is_the_squared_change_of_the_code() -> None:
    """A network that knows the image gives it back in any number of steps; its mean brightness is the code here."""
    images, u = X, randn(*X.shape, seed=3)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        a = SCHEDULE.alpha_bar(t)[:, None, None, None]
        return (x - a.sqrt() * images) / (1 - a).sqrt()

    code = images.mean(dim=(1, 2, 3))[:, None] + torch.tensor([[0.0], [0.1], [-0.2], [0.0], [0.0], [1.0]], dtype=F64)
    change = reread(eps_fn, lambda x: x.mean(dim=(1, 2, 3))[:, None], code, u, SCHEDULE)
    expected = torch.tensor([0.0, 0.01, 0.04, 0.0, 0.0, 1.0], dtype=F64)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("prior", ["standard", "conditional", "flow"])
def test_mechanism_rereads_the_code_that_its_network_is_shown(prior: str) -> None:
    """Under the parents of another image of the first fourth, with gradients for network and encoder alone."""
    model, seen = make(prior=prior).requires_grad_(True), []
    embed = model.unet.embed
    model.unet.embed = lambda c: (seen.append(c), embed(c))[1]
    terms = model(X, PARENTS, torch.Generator().manual_seed(0), p_null=0.0, beta=0.0, kappa=2.0)
    plain = model(X, PARENTS, torch.Generator().manual_seed(0), p_null=0.0, beta=0.0)
    torch.testing.assert_close(terms["loss"], plain["loss"] + 2 * terms["reread"])
    (first, second), pa = seen[:2], model.scaling(PARENTS)
    e, new = first[:2, :4], second[:, 4:]
    assert sorted(new.tolist()) == sorted(pa[:2].tolist())
    torch.testing.assert_close(model.prior.to_noise(second[:, :4], new), model.prior.to_noise(e, pa[:2]))
    alone = model(X, PARENTS, torch.Generator().manual_seed(0), p_null=0.0, beta=0.0, kappa=1.0)
    (alone["loss"] - plain["loss"]).backward()
    assert model.encoder.head.weight.grad.any() and next(model.unet.parameters()).grad.any()
    assert not any(p.grad is not None and p.grad.any() for p in model.prior.parameters())


def test_divergence_is_weighed_by_gamma() -> None:
    model = make(prior="flow")
    loss = [
        model(X, PARENTS, torch.Generator().manual_seed(0), p_null=0.0, beta=0.3, gamma=gamma) for gamma in (0.0, 0.7)
    ]
    torch.testing.assert_close(loss[1]["loss"], loss[0]["loss"] + 0.7 * loss[1]["divergence"])
    assert "divergence" not in loss[0] and loss[1]["divergence"] != 0
