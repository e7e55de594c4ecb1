"""The priors of the semantic code: exact maps, densities, and noise that tells nothing of the parents."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from dscm.diffusion.prior import PRIORS, FlowPrior, StandardPrior
from dscm.layers import zero_init
from tests.support.networks import F64, PARENTS, X, make

N, D = 64, 3


def build(name: str, std: float = 0.15) -> StandardPrior:
    """Build a prior of three entries given two parents, every weight random."""
    prior = PRIORS[name](2, D).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return prior


def draw(n: int = N, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Draw codes, some of them beyond the splines' box, and parents."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, D, generator=generator, dtype=F64), torch.randn(n, 2, generator=generator, dtype=F64)


@torch.no_grad()
@pytest.mark.parametrize("name", PRIORS)
def test_noise_and_code_are_exact_inverses(name: str) -> None:
    """T⁻¹(T(e; pa); pa) = e and T(T⁻¹(ε; pa); pa) = ε; other parents give another code where T depends on them."""
    prior, (e, pa) = build(name), draw()
    torch.testing.assert_close(prior.from_noise(prior.to_noise(e, pa), pa), e, rtol=0, atol=1e-9)
    torch.testing.assert_close(prior.to_noise(prior.from_noise(e, pa), pa), e, rtol=0, atol=1e-9)
    moved = prior.from_noise(prior.to_noise(e, pa), pa.flip(0))
    assert ((moved - e).abs().max() > 0.1) == (name == "flow")


def test_flow_is_autoregressive_and_its_slopes_are_those_of_autograd() -> None:
    """∂T/∂e is lower triangular with the exponentials of the log slopes on its diagonal."""
    prior, (e, pa) = build("flow"), draw()
    assert isinstance(prior, FlowPrior)
    for code, parents in zip(e[:8], pa[:8]):
        jacobian = torch.autograd.functional.jacobian(lambda c: prior.to_noise(c[None], parents[None])[0], code)
        assert not jacobian.triu(1).any() and jacobian.tril(-1).any()
        _, log_slope = prior.flow(code[None], parents[None])
        torch.testing.assert_close(jacobian.diagonal(), log_slope[0].exp())


def test_flow_starts_as_the_identity() -> None:
    """So that a flow added to a trained mechanism changes nothing before it is fitted."""
    prior, (e, pa) = FlowPrior(2, D).double(), draw()
    torch.testing.assert_close(prior.to_noise(e, pa), e, rtol=0, atol=1e-12)
    assert prior.divergence(e, pa).abs().max() < 1e-12


def test_kl_of_a_flow_is_that_of_its_density() -> None:
    """−H(q) − log p(z | pa), where p is what change of variables makes of N(0, I)."""
    prior, (z, pa) = build("flow"), draw()
    q, p = Normal(torch.zeros_like(z), torch.full_like(z, 0.3)), prior(pa, z)
    for i in range(4):

        def noise(code: Tensor, i: int = i) -> Tensor:
            e = (code - p.mean[i]) / p.stddev[i]
            return prior.to_noise(e[None], pa[i : i + 1])[0]

        volume = torch.autograd.functional.jacobian(noise, z[i]).slogdet()[1]
        log_prob = Normal(0.0, 1.0).log_prob(noise(z[i])).sum() + volume
        torch.testing.assert_close(prior.kl(q, z, pa)[i], -q.entropy()[i].sum() - log_prob)


@torch.no_grad()
def test_kl_of_a_flow_that_does_nothing_is_that_of_the_gaussian() -> None:
    """In the mean over samples of q."""
    flow, gaussian, n = build("flow"), build("conditional"), 20_000
    for net in flow.flow.nets:
        zero_init(net[-1])
    flow.net.load_state_dict(gaussian.net.state_dict())
    z = 0.3 * torch.randn(n, D, generator=torch.Generator().manual_seed(2), dtype=F64)
    q, pa = Normal(torch.zeros_like(z), torch.full_like(z, 0.3)), draw()[1][:1].expand(n, -1)
    sampled, closed = flow.kl(q, z, pa), gaussian.kl(q, z, pa)
    assert abs(sampled.mean() - closed.mean()) < 4 * sampled.std() / n**0.5


def test_divergence_moves_the_codes_and_not_the_flow() -> None:
    """It is log p(e | pa) − log N(e; 0, I), and its gradient is that of the codes alone."""
    prior, (e, pa) = build("flow"), draw()
    e.requires_grad_()
    noise, log_slope = prior.flow(e, pa)
    normal = Normal(0.0, 1.0)
    expected = (normal.log_prob(noise) + log_slope - normal.log_prob(e)).sum(dim=1)
    got = prior.divergence(e, pa)
    torch.testing.assert_close(got, expected)
    got.sum().backward()
    assert e.grad is not None and e.grad.any()
    assert all(parameter.grad is None for parameter in prior.parameters())


def test_noise_of_a_fitted_flow_tells_nothing_of_the_parents() -> None:
    """Codes of two classes that differ in spread, shape and correlation alone, as a Gaussian prior leaves them."""
    torch.manual_seed(0)
    n, generator = 2000, torch.Generator().manual_seed(0)
    pa = (torch.rand(n, 1, generator=generator) < 0.5).float()
    a, b = torch.randn(2, n, generator=generator)
    first = torch.where(pa[:, 0] == 1, a.sign() * (a.abs() + 0.8), 0.9 * a)
    second = torch.where(pa[:, 0] == 1, 0.9 * first + 0.3 * b, -0.9 * first + 0.3 * b)
    e = torch.stack([first, second], dim=1)
    prior = FlowPrior(1, 2)
    optimiser = torch.optim.Adam(prior.flow.parameters(), 1e-2)
    q = Normal(e, torch.ones_like(e))
    for _ in range(120):
        loss = prior.kl(q, e, pa).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        noise = prior.to_noise(e, pa)
    for code, told in ((e, True), (noise, False)):
        features = torch.cat([code, code.square(), code.prod(dim=1, keepdim=True), torch.ones(n, 1)], dim=1)
        read = features[::2] @ torch.linalg.lstsq(features[1::2], 2 * pa[1::2] - 1).solution > 0
        accuracy = (read == (pa[::2] == 1)).float().mean().item()
        assert (accuracy > 0.9) == told and (accuracy < 0.5 + 4 / (2 * math.sqrt(n / 2))) != told, (accuracy, told)
    assert abs(noise.std().item() - 1) < 0.1


@torch.no_grad()
def test_mechanism_keeps_the_noise_and_shows_the_network_the_code() -> None:
    """Abducted noise is T(e; pa), composition is exact, and under other parents the network sees T⁻¹(ε; pa*)."""
    model = make(prior="flow").using(guidance=1.0, steps=8, fixed_point=20)
    pa = model.scaling(PARENTS)
    q = model.encoder(X)
    p = model.prior(pa, q.mean)
    noise = model.abduct(X, PARENTS)
    e = (q.mean - p.mean) / p.stddev
    torch.testing.assert_close(noise.z, model.prior.to_noise(e, pa))
    assert (noise.z - e).abs().max() > 0.01
    torch.testing.assert_close(model.predict(noise, PARENTS), X, rtol=0, atol=1e-8)
    seen: list[Tensor] = []
    embed = model.unet.embed
    model.unet.embed = lambda c: (seen.append(c), embed(c))[1]
    other = {name: value.flip(0) for name, value in PARENTS.items()}
    model.predict(noise, other)
    expected = model.prior.from_noise(noise.z, model.scaling(other))
    torch.testing.assert_close(seen[0], F.pad(expected, (0, pa.shape[1])) + F.pad(model.scaling(other), (4, 0)))
