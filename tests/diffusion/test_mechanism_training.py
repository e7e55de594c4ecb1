"""The objective of the diffusion mechanism, its code and its dropped conditions."""

import pytest
import torch
from torch import Tensor, nn

from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.process import add_noise, velocity
from tests.support.networks import F64, GRAPH, PARENTS, X, make


def terms(model: DiffusionMechanism, p_null: float = 0.5, beta: float = 1.0, seed: int = 0, x: Tensor = X,
          parents: dict[str, Tensor] = PARENTS) -> dict[str, Tensor]:  # fmt: skip
    """Compute the training loss with a seeded generator."""
    return model(x, parents, torch.Generator().manual_seed(seed), p_null, beta)


class Spy(nn.Module):
    """A network that keeps what it is given and predicts zero."""

    def embed(self, c: Tensor) -> Tensor:
        """Return the conditions as they are."""
        return c

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """Return zeros of the shape of ``x``."""
        self.x, self.t, self.c = x, t, c
        return torch.zeros_like(x)


def test_code_is_standardised_by_its_prior() -> None:
    """σ(pa)·e + μ(pa) is the encoder's mean; with the standard prior e itself is."""
    for prior in ("standard", "conditional"):
        model = make(prior=prior)
        pa = model.scaling(PARENTS)
        q = model.encoder(X)
        p = model.prior(pa, q.mean)
        torch.testing.assert_close(model.encode(X, pa) * p.stddev + p.mean, q.mean, rtol=0, atol=1e-12)
        assert torch.equal(model.encode(X, pa), q.mean) == (prior == "standard")


def test_kl_has_the_closed_form_under_the_conditional_prior() -> None:
    """Σ log(σ_p/σ_q) + (σ_q² + (μ_q − μ_p)²)/(2σ_p²) − ½, and the loss reports its mean."""
    model = make()
    pa = model.scaling(PARENTS)
    q = model.encoder(X)
    p = model.prior(pa, q.mean)
    kl = (p.stddev / q.stddev).log() + (q.variance + (q.mean - p.mean) ** 2) / (2 * p.variance) - 0.5
    torch.testing.assert_close(model.kl(X, pa, torch.Generator()), kl.sum(dim=1))
    torch.testing.assert_close(terms(model)["kl"], kl.sum(dim=1).mean())


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_loss_of_a_network_that_says_zero_is_the_target_squared(prediction: str) -> None:
    """The error is ‖ε‖² or ‖v‖², summed over pixels, of the very noise in the x_t that the network was shown."""
    model = make(0, prediction=prediction)
    model.unet = Spy()
    got = terms(model, p_null=0.0)
    a = model.schedule.alpha_bar(model.unet.t)
    eps = (model.unet.x - a.sqrt()[:, None, None, None] * X) / (1 - a).sqrt()[:, None, None, None]
    target = eps if prediction == "eps" else velocity(X, eps, a)
    torch.testing.assert_close(got["loss"].double(), target.square().sum(dim=(1, 2, 3)).mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(model.unet.x, add_noise(X, eps, a))
    assert model.unet.t.max() > 500 and model.unet.t.min() < 500  # true timesteps up to T, stratified


def test_network_is_shown_the_code_and_parents_or_the_null_token() -> None:
    """A row is (z, pa) in that order, or as a whole the token, in the share p_∅."""
    model, n = make(), 600
    model.unet = Spy()
    parents = GRAPH.scm().sample(n, torch.Generator().manual_seed(3))
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(4), dtype=F64) * 2 - 1
    terms(model, p_null=0.3, x=x, parents=parents)
    dropped = (model.unet.c == model.null).all(dim=1)
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=0.07)
    torch.testing.assert_close(model.unet.c[~dropped, 4:], model.scaling(parents)[~dropped])
    pa = model.scaling(parents)
    q = model.encoder(x)
    p = model.prior(pa, q.mean)
    standard = (model.unet.c[:, :4] * p.stddev + p.mean - q.mean) / q.stddev  # what was drawn to sample z
    assert standard[~dropped].mean().item() == pytest.approx(0, abs=0.1)
    assert standard[~dropped].std().item() == pytest.approx(1, abs=0.05)


def test_loss_is_its_two_shares_and_the_kl_term() -> None:
    """The loss is the share-weighted mean of `conditional` and `null`, plus β·KL."""
    model = make()
    got = terms(model, beta=0.7)
    share = (got["loss"] - 0.7 * got["kl"] - got["conditional"]) / (got["null"] - got["conditional"])
    assert (6 * share).item() == pytest.approx(round(6 * share.item()), abs=1e-3) and 0 < share < 1


def test_everything_random_comes_from_the_generator() -> None:
    """The global seed is not used and not moved; another generator seed gives another loss."""
    model = make()
    torch.manual_seed(1)
    first, state = terms(model), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(terms(model)["loss"], first["loss"])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(terms(model, seed=1)["loss"], first["loss"])


def test_denoiser_moves_the_encoder_but_not_the_prior_and_the_kl_moves_both() -> None:
    """With β = 0 the prior's gradient is zero or none; the KL alone is what it learns from."""
    model = make()
    terms(model, p_null=0.0, beta=0.0)["loss"].backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.prior.parameters())
    assert model.encoder.head.bias.grad.all()  # means and log deviations
    model.zero_grad()
    model.unet = Spy()
    terms(model, p_null=0.0, beta=1.0)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.prior.parameters())


def test_training_leaves_the_batch_alone() -> None:
    """Neither images nor parents change."""
    x, parents = X.clone(), {name: tensor.clone() for name, tensor in PARENTS.items()}
    terms(make(), x=x, parents=parents)
    assert torch.equal(x, X) and all(torch.equal(parents[name], PARENTS[name]) for name in PARENTS)


def watch(model: DiffusionMechanism, seen: list[Tensor]) -> None:
    """Write down the conditions that a mechanism's network embeds."""
    embed = model.unet.embed
    model.unet.embed = lambda c: (seen.append(c), embed(c))[1]


def test_parents_are_dropped_apart_where_asked() -> None:
    """All at once with probability p_∅, else the code and each parent by itself with the same."""
    model, seen = make(), []
    watch(model, seen)
    n = 4000
    parents = GRAPH.scm().sample(n, torch.Generator().manual_seed(3))
    x = torch.zeros(n, 1, 8, 8, dtype=F64)
    model(x, parents, torch.Generator().manual_seed(0), p_null=0.3, beta=1.0, apart=True)
    widths = list(model.widths.values())
    gone = torch.stack([part.all(dim=1) for part in (seen[0] == model.null).split(widths, dim=1)], dim=1)  # (n, 5)
    torch.testing.assert_close(gone.double().mean(0), torch.full((5,), 0.3 + 0.7 * 0.3).double(), rtol=0, atol=0.03)
    assert gone.all(dim=1).double().mean().item() == pytest.approx(0.3 + 0.7 * 0.3**5, abs=0.03)
