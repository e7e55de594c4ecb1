"""The contract of an image's mechanism, for every one of them, and the closed forms that the baselines rest on."""

import io
import math

import pytest
import torch
from torch import Tensor

from dscm.baselines.diffscm import DiffSCM
from dscm.baselines.hvae import HVAE
from dscm.baselines.likelihood import discretised_log_prob, gaussian_kl, gaussian_log_prob
from dscm.baselines.vae import VAE
from dscm.baselines.vci import VCI
from dscm.errors import InputError
from dscm.causal.graph_file import get_graph
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.causal.image_mechanism import ImageMechanism
from dscm.diffusion.sampling import Sampling
from dscm.diffusion.solvers import Solver

PARENTS = get_graph("morphomnist").attributes
DIGIT = [variable for variable in PARENTS if variable.name == "digit"]
SIZE = 14
SMALL = {"channels": 8, "multipliers": (1, 2)}
UNET = {"unet": {**SMALL, "blocks": 1}}
MAKERS = {
    "vae": lambda: VAE(PARENTS, 1, SIZE, code_dim=4, embedding=8, **SMALL),
    "hvae": lambda: HVAE(PARENTS, 1, SIZE, latent=2, embedding=8, **SMALL),
    "vci": lambda: VCI(PARENTS, 1, SIZE, code_dim=4, embedding=8, critic={**SMALL, "patch": 2}, patch=2, **SMALL),
    "diffscm": lambda: DiffSCM(DIGIT, 1, SIZE, **UNET, classifier={**SMALL, "patch": 1}),
    "spatial": lambda: DiffusionMechanism(PARENTS, 1, SIZE, **UNET),
    "semantic": lambda: DiffusionMechanism(PARENTS, 1, SIZE, 4, encoder=SMALL, **UNET),
}
MAKERS |= dict.fromkeys(("dynamic", "residual"), MAKERS["semantic"])
PLAIN = Sampling(guidance=1.0, steps=16, solver=Solver(evaluations=30))
FOLLOWING = {name: Sampling(1.5, (0.0, 1000.0), 8, abduction=name) for name in ("dynamic", "residual")}
OBJECTIVE = {"diffscm": {}, **dict.fromkeys(("spatial", "semantic", *FOLLOWING), {"p_null": 0.3, "beta": 1.0})}
# Of composition; the others make no promise.
EXACT = {"vae": 1e-10, "hvae": 1e-10, "spatial": 1e-6, "semantic": 1e-6, "residual": 1e-6}
each = pytest.mark.parametrize("name", MAKERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str) -> ImageMechanism:
    """A mechanism with random weights everywhere, also where training starts from zeros."""
    torch.manual_seed(0)
    model = MAKERS[name]().double().eval()
    for i, parameter in enumerate(model.parameters()):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.005, generator=seeded(i))
    model.fit_scaling(observe(50))
    if hasattr(model, "sampling"):
        model.sampling = FOLLOWING.get(name, PLAIN)
    return model


def observe(n: int = 3) -> dict[str, Tensor]:
    """Attributes and images."""
    attributes = get_graph("morphomnist").scm().sample(n, seeded(1))
    image = 2 * torch.rand(n, 1, SIZE, SIZE, generator=seeded(2), dtype=torch.float64) - 1
    return {name: value if name == "digit" else value.double() for name, value in attributes.items()} | {"image": image}


@each
def test_composition(name: str) -> None:
    """Abduct, then predict with the same parents: the observation, within what the mechanism promises."""
    model, obs = make(name), observe()
    with torch.no_grad():
        again = model.predict(model.abduct(obs["image"], obs), obs)
    assert again.shape == obs["image"].shape and again.dtype == torch.float64
    error = (again - obs["image"]).abs().max()
    assert error <= EXACT.get(name, math.inf)
    if name == "vci":
        assert error > 0.01, "a code alone cannot repeat noise"


@pytest.mark.parametrize("name", ["vae", "hvae", "vci"])
def test_a_sampled_code_comes_from_the_generator(name: str) -> None:
    """Another seed abducts other latents, about the mean ones; composition is as exact as before."""
    model, obs = make(name), observe()
    with torch.no_grad():
        mean = model.abduct(obs["image"], obs).latents
        model.sample_code = True
        one, same, other = (model.abduct(obs["image"], obs, seeded(seed)) for seed in (1, 1, 2))
        again = model.predict(one, obs)
    assert torch.equal(one.latents, same.latents)
    assert not torch.equal(one.latents, other.latents) and not torch.equal(one.latents, mean)
    assert (again - obs["image"]).abs().max() <= EXACT.get(name, math.inf)


@each
def test_inputs_are_not_mutated_and_parents_matter(name: str) -> None:
    model, obs = make(name), observe()
    before = {key: value.clone() for key, value in obs.items()}
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        kept = [part.clone() for part in (noise if isinstance(noise, tuple) else (noise,))]
        answer = model.predict(noise, obs | {"digit": (obs["digit"] + 3) % 10})
        same = model.predict(noise, obs)
    assert not torch.equal(answer, same)
    assert all(torch.equal(obs[key], before[key]) for key in obs)
    assert all(map(torch.equal, kept, noise if isinstance(noise, tuple) else (noise,)))


@each
def test_saved_and_loaded_it_gives_the_same_bytes(name: str) -> None:
    model, obs = make(name), observe()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = MAKERS[name]().double().eval()
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    if hasattr(model, "sampling"):
        other.sampling = model.sampling
    with torch.no_grad():
        one, two = (
            m.predict(m.abduct(obs["image"], obs), obs | {"digit": obs["digit"].flip(0)}) for m in (model, other)
        )
    assert torch.equal(one, two)


@each
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    model, obs = make(name).train(), observe(8)
    terms = model(obs["image"], obs, generator=seeded(3), **OBJECTIVE.get(name, {"beta": 1.0}))
    assert terms["loss"].isfinite() and all(not term.requires_grad for key, term in terms.items() if key != "loss")
    terms["loss"].backward()
    lacking = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not lacking


@each
def test_samples_have_the_shape_of_images(name: str) -> None:
    model = make(name).float()
    obs = {key: value.float() if value.is_floating_point() else value for key, value in observe(5).items()}
    with torch.no_grad():
        image = model.predict(model.sample_noise(5, seeded(4)), obs)
    assert image.shape == (5, 1, SIZE, SIZE) and image.isfinite().all()


@pytest.mark.parametrize("name", ["vae", "hvae"])
def test_without_pixel_noise_composition_is_the_reconstruction(name: str) -> None:
    model, obs = make(name), observe()
    model.pixel_noise = False
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        again = model.predict(noise, obs)
    assert not noise.u.any() and (again - obs["image"]).abs().mean() > 0.01


@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
def test_a_share_of_the_prior_moves_the_latents_but_never_composition(mix: float) -> None:
    """With the observed parents, what is carried over and what follows the prior are the same."""
    model, obs = make("hvae"), observe()
    model.mix = mix
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        again = model.predict(noise, obs)
        changed = model.predict(noise, obs | {"thickness": obs["thickness"] + 1})
        model.mix = 0.0
        carried = model.predict(noise, obs | {"thickness": obs["thickness"] + 1})
    assert torch.allclose(again, obs["image"], atol=1e-10)
    assert torch.equal(changed, carried) == (mix == 0)


def test_the_picture_and_the_critic_learn_apart() -> None:
    """The adversary moves encoder and decoder, never the critic; the critic's loss moves the critic alone."""
    model, obs = make("vci").train(), observe(8)
    model.consistency = 0.0
    terms = {}
    for adversary in (0.0, 50.0):
        model.zero_grad()
        model.adversary = adversary
        model(obs["image"], obs, generator=seeded(3), beta=1.0)["loss"].backward()
        terms[adversary] = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    for key in terms[0.0]:
        same = torch.allclose(terms[0.0][key], terms[50.0][key], rtol=1e-6, atol=1e-12)
        if key.startswith("critic."):
            assert same, key
    decoder = [key for key in terms[0.0] if key.startswith("head.")]
    assert not all(torch.allclose(terms[0.0][key], terms[50.0][key]) for key in decoder)


def test_the_classifier_steers_towards_its_class() -> None:
    """One step of guidance raises the class's probability at that noise level."""
    model, obs = make("diffscm"), observe(4)
    t, wanted = torch.full((4,), 300.0, dtype=torch.float64), torch.tensor([1, 2, 3, 4])
    x = obs["image"]
    with torch.no_grad():
        free, steered = (model._steered(wanted, scale)(x, t) for scale in (0.0, 1.0))
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


def test_divergence_and_density_are_those_of_torch() -> None:
    mean, log_std, other, other_log = torch.randn(4, 1000, generator=seeded(5), dtype=torch.float64)
    p, q = torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(other, other_log.exp())
    torch.testing.assert_close(gaussian_kl(mean, log_std, other, other_log), torch.distributions.kl_divergence(p, q))
    x = torch.randn(1000, generator=seeded(6), dtype=torch.float64)
    torch.testing.assert_close(gaussian_log_prob(x, mean, log_std), p.log_prob(x))


def test_a_grey_level_has_the_probability_of_its_interval() -> None:
    """Half a level to each side, of the outermost ones all beyond."""
    mean, log_std = torch.tensor([0.2, -0.9, 0.95]).double(), torch.tensor([-0.5, -1.0, 0.0]).double()
    normal, half = torch.distributions.Normal(mean, log_std.exp()), 1 / 255
    for level in (0, 100, 255):
        x = torch.full_like(mean, level / 127.5 - 1)
        above = normal.cdf(x + half) if level < 255 else torch.ones_like(mean)
        below = normal.cdf(x - half) if level > 0 else torch.zeros_like(mean)
        torch.testing.assert_close(discretised_log_prob(x, mean, log_std), (above - below).log(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["vae", "hvae"])
def test_the_bound_is_that_of_the_distributions(name: str) -> None:
    """The KL that training reports is the sum of torch's, over every latent, of a batch of one image."""
    model, obs = make(name), observe(1)
    with torch.no_grad():
        terms = model(obs["image"], obs, seeded(4), beta=0.7)
        embedding = model.embed(model.scaling(obs))
        if name == "vae":
            mean, log_std = model._encode(obs["image"], embedding)
            pairs = [(mean, log_std, torch.zeros_like(mean), torch.zeros_like(mean))]
        else:
            h, pairs, generator = model.top[None], [], seeded(4)
            for rung, feature in zip(model.rungs, reversed(model.encoder(obs["image"], embedding))):
                h, prior, prior_log_std = rung.descend(h, feature.shape[-1], embedding)
                mean, log_std = rung.infer(h, feature, embedding)
                pairs.append((mean, log_std, prior, prior_log_std))
                noise = torch.randn(mean.shape, generator=generator)
                h = rung.go_on(h, mean + log_std.exp() * noise, embedding)
    wanted = 0.0
    for mean, log_std, prior, prior_log_std in pairs:
        q, p = (torch.distributions.Normal(m, s.exp()) for m, s in ((mean, log_std), (prior, prior_log_std)))
        wanted += torch.distributions.kl_divergence(q, p).sum().item()
    assert terms["kl"].item() == pytest.approx(wanted, rel=1e-6)
    assert terms["loss"].item() == pytest.approx(terms["reconstruction"].item() + 0.7 * wanted, rel=1e-6)


@pytest.mark.parametrize("log_std", [-4.0, -1.0, 1.0])
def test_grey_levels_have_all_the_probability(log_std: float) -> None:
    """The probabilities of the 256 levels add up to one, also of means outside the range."""
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean in (-1.3, -1.0, 0.1, 0.999):
        total = discretised_log_prob(levels, torch.tensor(mean).double(), torch.tensor(log_std).double()).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-6)
