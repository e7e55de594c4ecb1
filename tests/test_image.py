"""The diffusion mechanism under the contract of every other mechanism, with small random networks."""

import pytest
import torch
from torch import Tensor, nn

from dscm.data.scaling import to_signed
from dscm.diffusion.process import add_noise, velocity
from dscm.causal.graph_file import get_graph
from dscm.diffusion.mechanism import DiffusionMechanism, ImageNoise
from dscm.evaluation.probe import encode_all, probe_code
from dscm.diffusion.sampling import Sampling
from dscm.diffusion.solvers import Solver

GRAPH = get_graph("morphomnist")
F64 = torch.float64
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=F64) * 2 - 1
PARENTS = GRAPH.scm().sample(6, torch.Generator().manual_seed(2))


def make(
    code_dim: int = 4, prior: str = "conditional", prediction: str = "eps", std: float = 0.1
) -> DiffusionMechanism:
    """Build a mechanism for 8×8 images with fitted scaling; every weight is random, also those that start at zero."""
    unet = {"channels": 8, "multipliers": [1, 2], "patch": 2}
    encoder = {"channels": 8, "multipliers": [1, 2], "patch": 2, "dropout": 0.0}
    model = DiffusionMechanism(
        GRAPH.attributes, 1, 8, code_dim, prior, prediction=prediction, unet=unet, encoder=encoder
    )
    model.scaling.fit(GRAPH.scm().sample(200, torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return model.double().eval()


def terms(model: DiffusionMechanism, p_null: float = 0.5, beta: float = 1.0, seed: int = 0, x: Tensor = X,
          parents: dict[str, Tensor] = PARENTS) -> dict[str, Tensor]:  # fmt: skip
    """Compute the training loss with a seeded generator."""
    return model(x, parents, torch.Generator().manual_seed(seed), p_null, beta)


# Abduction and prediction


@pytest.mark.parametrize(
    ("code_dim", "prior", "prediction", "grid", "fixed_point"),
    [
        (0, "standard", "eps", "uniform", 20),
        (4, "standard", "eps", "log-sigma", 20),
        (4, "conditional", "eps", "log-sigma", 20),
        (4, "conditional", "v", "log-sigma", 70),
    ],
)
@torch.no_grad()
def test_composition_is_exact_only_when_inversion_is_solved(
    code_dim: int, prior: str, prediction: str, grid: str, fixed_point: int
) -> None:
    """With enough fixed-point iterations at ω = 1 nothing changes; with the paper's explicit step something does."""
    model = make(code_dim, prior, prediction)
    model.sampling = Sampling(guidance=1.0, steps=8, grid=grid, solver=Solver(evaluations=fixed_point))
    torch.testing.assert_close(model.predict(model.abduct(X, PARENTS), PARENTS), X, rtol=0, atol=1e-9)
    model.sampling = Sampling(guidance=1.0, steps=8, grid=grid, solver=Solver(evaluations=0))
    assert (model.predict(model.abduct(X, PARENTS), PARENTS) - X).abs().max() > 1e-4


@torch.no_grad()
def test_guided_abduction_composes_exactly_at_its_guidance() -> None:
    """It inverts the field that generates; the unguided inversion of the same image does not lead back."""
    model = make()
    everywhere = {"guidance": 1.5, "interval": (0.0, 1000.0), "steps": 8, "solver": Solver(evaluations=40)}
    model.sampling = Sampling(**everywhere, abduction="guided")
    torch.testing.assert_close(model.predict(model.abduct(X, PARENTS), PARENTS), X, rtol=0, atol=1e-9)
    model.sampling = Sampling(**everywhere)
    assert (model.predict(model.abduct(X, PARENTS), PARENTS) - X).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["ddim", "trapezoid"])
def test_noise_says_how_well_the_inversion_was_solved(kind: str) -> None:
    """By the worst step of each image: to the tolerance where there is one, less with more evaluations."""
    model, unsolved = make(), []
    for solver in (Solver(kind, 1), Solver(kind, 2), Solver(kind, 100, 1e-9)):
        model.sampling = Sampling(guidance=1.0, steps=8, solver=solver)
        unsolved.append(model.abduct(X, PARENTS).unsolved)
    assert all(part.shape == (6,) for part in unsolved)
    assert (unsolved[0] > unsolved[1]).all() and (unsolved[1] > unsolved[2]).all() and unsolved[2].max() <= 1e-9
    model.sampling = Sampling(guidance=1.0, steps=8, solver=Solver(evaluations=0))
    assert not model.abduct(X, PARENTS).unsolved.numel()


@torch.no_grad()
def test_bfloat16_is_the_networks_alone() -> None:
    """States and sums stay float32, so that a round trip is as close as the network's three digits allow."""
    model, x, parents = make().float(), X.float(), {name: value.float() for name, value in PARENTS.items()}
    images = []
    for precision in ("float32", "bfloat16"):
        model.sampling = Sampling(1.0, steps=8, solver=Solver("trapezoid", 20), precision=precision)
        noise = model.abduct(x, parents)
        images.append(model.predict(noise, {name: value.flip(0) for name, value in parents.items()}))
        assert images[-1].dtype == noise.u.dtype == torch.float32
        assert (model.predict(noise, parents) - x).abs().mean() < (1e-5 if precision == "float32" else 0.02)
    difference = (images[0] - images[1]).abs().max()
    assert 1e-5 < difference < 0.1


def test_settings_of_sampling_are_obeyed() -> None:
    """Guidance and clipping change the prediction alone; steps, grid and fixed point change the abducted u."""
    model = make()
    model.sampling = Sampling(steps=5)
    noise = model.abduct(X, PARENTS)
    image = model.predict(noise, PARENTS)
    for change in ({"guidance": 4.0}, {"clip": True}):  # some x̂_0 leaves [-1, 1]
        model.sampling = Sampling(**{"steps": 5} | change)
        assert torch.equal(model.abduct(X, PARENTS).u, noise.u)
        assert not torch.allclose(model.predict(noise, PARENTS), image, rtol=0, atol=1e-6)
    for change in ({"steps": 6}, {"grid": "uniform"}, {"solver": Solver(evaluations=1)}):
        model.sampling = Sampling(**{"steps": 5} | change)
        assert not torch.allclose(model.abduct(X, PARENTS).u, noise.u, rtol=0, atol=1e-6)
        assert torch.equal(model.abduct(X, PARENTS).z, noise.z)


@torch.no_grad()
def test_guidance_is_confined_to_its_interval() -> None:
    """Below every level of the grid it does nothing; over all of them it is guidance everywhere."""
    model = make()

    def answer(guidance: float, *interval: float) -> Tensor:
        model.sampling = Sampling(guidance, interval, 5)
        return model.predict(noise, PARENTS)

    noise = model.abduct(X, PARENTS)
    plain = answer(1.0, 0.0, 1000.0)
    assert torch.equal(answer(3.0, 0.0, 0.009), plain) and torch.equal(answer(3.0, 100.0, 1000.0), plain)
    images = [answer(3.0, low, 1000.0) for low in (0.0, 0.5, 5.0)]
    change = [(image - plain).abs().mean() for image in images]
    assert change[0] != change[1] != change[2] and min(change) > 1e-6


def test_clipping_keeps_predictions_in_range() -> None:
    """With `clip` an image lies in [-1, 1]."""
    model = make(std=0.2)
    noise = ImageNoise(
        3 * torch.randn(6, 1, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(0)), X.new_ones(6, 4)
    )
    model.sampling = Sampling(steps=5)
    assert model.predict(noise, PARENTS).abs().max() > 1.5
    model.sampling = Sampling(steps=5, clip=True)
    assert model.predict(noise, PARENTS).abs().max() < 1.5


@pytest.mark.parametrize("code_dim", [0, 4])
def test_noise_has_its_shapes_and_depends_on_its_seed(code_dim: int) -> None:
    """u has the shape of the images, z of the code (none for the spatial mechanism); both are standard normal."""
    model = make(code_dim)
    model.sampling = Sampling(steps=2)
    noise = model.abduct(X, PARENTS)
    assert noise.u.shape == X.shape and noise.z.shape == (6, code_dim)
    drawn, again, other = (model.sample_noise(500, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert drawn.u.shape == (500, 1, 8, 8) and drawn.z.shape == (500, code_dim)
    assert torch.equal(drawn.u, again.u) and torch.equal(drawn.z, again.z) and not torch.equal(drawn.u, other.u)
    for tensor in (drawn.u, drawn.z) if code_dim else (drawn.u,):
        assert tensor.mean().item() == pytest.approx(0, abs=0.1) and tensor.std().item() == pytest.approx(1, abs=0.1)


@torch.no_grad()
def test_it_serves_as_the_image_of_a_graph() -> None:
    """Under `Graph.scm`, the factual digit changes nothing, another one every image, and do(image) sets them all."""
    model = make()
    model.sampling = Sampling(guidance=1.0, steps=8, solver=Solver(evaluations=20))
    scm, obs = GRAPH.scm(model), PARENTS | {"image": X}
    same = scm.counterfactual(obs, {"digit": obs["digit"]})
    torch.testing.assert_close(same["image"], X, rtol=0, atol=1e-6)  # attributes are float32
    other = scm.counterfactual(obs, {"digit": (obs["digit"] + 1) % 10})
    assert ((other["image"] - X).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    assert torch.equal(scm.counterfactual(obs, {"image": X[0]})["image"], X[:1].expand(6, 1, 8, 8))


# The code


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
    torch.testing.assert_close(model.kl(X, pa), kl.sum(dim=1))
    torch.testing.assert_close(terms(model)["kl"], kl.sum(dim=1).mean())


# Training


class Spy(nn.Module):
    """A network that keeps what it is given and predicts zero."""

    def embed(self, c: Tensor) -> Tensor:
        """Return the conditions as they are."""
        return c

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """Return zeros of the shape of ``x``."""
        self.x, self.t, self.c = x, t, c
        return torch.zeros_like(x)


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
    """loss = share-weighted mean of `conditional` and `null`, plus β·KL."""
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


# Probe


def test_probe_finds_a_linear_code_and_scores_chance_otherwise() -> None:
    """With one fair half to score on, an independent code of many dimensions explains nothing."""
    scaling, n = make(0).scaling, 1100
    generator = torch.Generator().manual_seed(0)
    parents = GRAPH.scm().sample(n, generator)
    scaling.fit(parents)
    pa = scaling(parents)
    found = probe_code(pa @ torch.randn(13, 13, generator=generator, dtype=F64), scaling.variables, parents)
    assert found["digit"] > 0.999 and min(found[name] for name in ("thickness", "intensity", "slant")) > 0.999
    noise = torch.randn(n, 64, generator=generator, dtype=F64)
    chance = probe_code(noise, scaling.variables, parents)  # an unheld-out half would be fitted with R² of 0.12
    assert chance["digit"] < 0.2 and max(chance[name] for name in ("thickness", "intensity", "slant")) < 0.05


def test_probe_scores_a_code_that_says_half() -> None:
    """A standardised parent plus noise of equal variance explains R² = ½ of it, about its mean."""
    n = 2000
    parents = GRAPH.scm().sample(n, torch.Generator().manual_seed(0))
    thickness = parents["thickness"].double()
    noise = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=F64)
    code = (thickness - thickness.mean()) / thickness.std() + noise
    score = probe_code(code[:, None], make(0).scaling.variables, parents)
    assert score["thickness"] == pytest.approx(0.5, abs=0.06)


def test_encoding_in_chunks_is_encoding_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code and KL of five images, two at a time."""
    model = make(3).float()
    images = torch.randint(0, 256, (5, *model.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pa = model.scaling({name: value[:1].expand(5) for name, value in PARENTS.items()})
    monkeypatch.setattr("dscm.evaluation.probe.CHUNK", 2)
    code, kl = encode_all(model, images, pa.float())
    torch.testing.assert_close(code, model.encode(to_signed(images), pa.float()))
    torch.testing.assert_close(kl, model.kl(to_signed(images), pa.float()))
