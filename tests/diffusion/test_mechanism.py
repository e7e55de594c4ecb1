"""The diffusion mechanism: abduction, prediction, and noise and images that correspond one to one."""

import pytest
import torch
from torch import Tensor

from dscm.errors import InputError
from tests.support.image_mechanisms import make as image_mechanism
from tests.support.image_mechanisms import observe
from tests.support.networks import GRAPH, PARENTS, X, make

EVERYWHERE = (0.0, 1000.0)


@pytest.mark.parametrize(
    ("code_dim", "prior", "prediction", "grid", "fixed_point"),
    [
        (0, "standard", "eps", "uniform", 15),
        (4, "standard", "eps", "log-sigma", 15),
        (4, "conditional", "eps", "log-sigma", 15),
        (4, "conditional", "v", "log-sigma", 25),
    ],
)
@torch.no_grad()
def test_composition_is_exact_only_when_inversion_is_solved(
    code_dim: int, prior: str, prediction: str, grid: str, fixed_point: int
) -> None:
    """With enough fixed-point iterations at ω = 1 nothing changes; with the paper's explicit step something does."""
    model = make(code_dim, prior, prediction).using(guidance=1.0, steps=6, grid=grid, solver="ddim")
    solved, explicit = (model.using(fixed_point=evaluations) for evaluations in (fixed_point, 0))
    torch.testing.assert_close(solved.predict(solved.abduct(X, PARENTS), PARENTS), X, rtol=0, atol=1e-9)
    assert (explicit.predict(explicit.abduct(X, PARENTS), PARENTS) - X).abs().max() > 1e-4


@torch.no_grad()
def test_guided_abduction_composes_exactly_at_its_guidance() -> None:
    """It inverts the field that generates; the unguided inversion of the same image does not lead back."""
    unguided = make().using(guidance=1.5, guidance_interval=EVERYWHERE, steps=8, solver="ddim", fixed_point=20)
    model = unguided.using(abduction="guided")
    torch.testing.assert_close(model.predict(model.abduct(X, PARENTS), PARENTS), X, rtol=0, atol=1e-9)
    assert (unguided.predict(unguided.abduct(X, PARENTS), PARENTS) - X).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["ddim", "trapezoid"])
def test_noise_says_how_well_the_inversion_was_solved(kind: str) -> None:
    """By the worst step of each image: less with more evaluations, and nothing where no step is implicit."""
    model = make().using(guidance=1.0, steps=8, solver=kind)
    unsolved = [model.using(fixed_point=evaluations).abduct(X, PARENTS).unsolved for evaluations in (1, 3, 20)]
    assert all(part.shape == (6,) for part in unsolved)
    assert (unsolved[0] > unsolved[1]).all() and (unsolved[1] > unsolved[2]).all() and unsolved[2].max() <= 1e-9
    assert not model.using(solver="ddim", fixed_point=0).abduct(X, PARENTS).unsolved.numel()


@torch.no_grad()
def test_bfloat16_is_the_networks_alone() -> None:
    """States and sums stay float32, so that a round trip is as close as the network's three digits allow."""
    plain, x, parents = make().float(), X.float(), {name: value.float() for name, value in PARENTS.items()}
    images = []
    for precision in ("float32", "bfloat16"):
        model = plain.using(guidance=1.0, steps=5, solver="trapezoid", fixed_point=12, precision=precision)
        noise = model.abduct(x, parents)
        images.append(model.predict(noise, {name: value.flip(0) for name, value in parents.items()}))
        assert images[-1].dtype == noise.u.dtype == torch.float32
        assert (model.predict(noise, parents) - x).abs().mean() < (1e-5 if precision == "float32" else 0.02)
    difference = (images[0] - images[1]).abs().max()
    assert 1e-5 < difference < 0.1


def test_settings_of_sampling_are_obeyed() -> None:
    """Guidance changes the prediction alone; steps, grid and solver change the abducted u."""
    model = make().using(steps=5)
    noise = model.abduct(X, PARENTS)
    image = model.predict(noise, PARENTS)
    amplified = model.using(guidance=4.0)
    assert torch.equal(amplified.abduct(X, PARENTS).u, noise.u)
    assert not torch.allclose(amplified.predict(noise, PARENTS), image, rtol=0, atol=1e-6)
    for change in ({"steps": 6}, {"grid": "uniform"}, {"solver": "ddim"}, {"fixed_point": 2}):
        other = model.using(**change)
        assert not torch.allclose(other.abduct(X, PARENTS).u, noise.u, rtol=0, atol=1e-6)
        assert torch.equal(other.abduct(X, PARENTS).z, noise.z)


def test_other_settings_are_another_view_of_the_same_weights() -> None:
    """No setting of the mechanism itself changes; a setting that does not exist is named."""
    model = make()
    before, view = model.sampling, model.using(guidance=4.0, steps=3)
    assert model.sampling is before and (view.sampling.steps, view.sampling.weights.others) == (3, 4.0)
    assert view.null is model.null and view.unet is model.unet
    with pytest.raises(InputError, match="guidence: not a setting of semantic; known: steps, grid"):
        model.using(guidence=3)


@torch.no_grad()
def test_guidance_is_confined_to_its_interval() -> None:
    """Below every level of the grid it does nothing; over all of them it is guidance everywhere."""
    model = make().using(steps=5)

    def answer(guidance: float, *interval: float) -> Tensor:
        return model.using(guidance=guidance, guidance_interval=interval).predict(noise, PARENTS)

    noise = model.abduct(X, PARENTS)
    plain = answer(1.0, 0.0, 1000.0)
    assert torch.equal(answer(3.0, 0.0, 0.009), plain) and torch.equal(answer(3.0, 100.0, 1000.0), plain)
    images = [answer(3.0, low, 1000.0) for low in (0.0, 0.5, 5.0)]
    change = [(image - plain).abs().mean() for image in images]
    assert change[0] != change[1] != change[2] and min(change) > 1e-6


@pytest.mark.parametrize("code_dim", [0, 4])
def test_noise_has_its_shapes_and_depends_on_its_seed(code_dim: int) -> None:
    """The noise u is shaped as images, z as the code (none of a spatial mechanism); both are standard normal."""
    model = make(code_dim).using(steps=2)
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
    model = make().using(guidance=1.0, steps=8, solver="ddim", fixed_point=20)
    scm, obs = GRAPH.scm(model), PARENTS | {"image": X}
    same = scm.counterfactual(obs, {"digit": obs["digit"]})
    torch.testing.assert_close(same["image"], X, rtol=0, atol=1e-6)  # attributes are float32
    other = scm.counterfactual(obs, {"digit": (obs["digit"] + 1) % 10})
    assert ((other["image"] - X).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    assert torch.equal(scm.counterfactual(obs, {"image": X[0]})["image"], X[:1].expand(6, 1, 8, 8))


@torch.no_grad()
@pytest.mark.parametrize(("weight", "abduction"), [(1.0, "semantic"), (1.5, "guided")])
def test_a_spatial_mechanism_reverses_exactly(weight: float, abduction: str) -> None:
    """Noise and images correspond one to one given any parents: x → do → x* → do(back) is x, again and again."""
    model = make(0).using(guidance=weight, guidance_interval=EVERYWHERE, steps=5, fixed_point=20, abduction=abduction)
    parents = {name: value[:3] for name, value in PARENTS.items()}
    other, x = {name: value[3:] for name, value in PARENTS.items()}, X[:3]
    for _ in range(2):
        changed = model.predict(model.abduct(x, parents), other)
        assert (changed - X[:3]).abs().max() > 0.01
        x = model.predict(model.abduct(changed, other), parents)
    torch.testing.assert_close(x, X[:3], rtol=0, atol=1e-8)


@torch.no_grad()
def test_what_was_drawn_is_abducted_again() -> None:
    """An image made from drawn noise gives that noise back."""
    model = make(0).using(guidance=1.0, steps=8, fixed_point=20)
    noise = model.sample_noise(6, torch.Generator().manual_seed(0))
    noise = noise._replace(u=noise.u.double(), z=noise.z.double())
    found = model.abduct(model.predict(noise, PARENTS), PARENTS)
    torch.testing.assert_close(found.u, noise.u, rtol=0, atol=1e-8)


@torch.no_grad()
def test_a_sampled_code_is_a_sample_of_q() -> None:
    """Standardised by the prior as the mean is, with mean and standard deviation of q(z | x); only if asked for."""
    model, n = make(std=0.3), 4000
    x, parents = X[:1].expand(n, -1, -1, -1), {name: value[:1].expand(n) for name, value in PARENTS.items()}
    pa = model.scaling(parents)
    q = model.encoder(x[:1])
    p = model.prior(pa[:1], q.mean)
    z = model.encode(x, pa, torch.Generator().manual_seed(0))
    std = (q.stddev / p.stddev)[0]
    assert ((z.mean(dim=0) - model.encode(x[:1], pa[:1])[0]).abs() < 4.5 * std / n**0.5).all()
    torch.testing.assert_close(z.std(dim=0), std, rtol=0.05, atol=0)
    one, plain = model.using(sample_code=True, steps=2), model.using(steps=2)
    few = {name: value[:2] for name, value in PARENTS.items()}
    mean, *others = (
        view.abduct(X[:2], few, generator).z
        for view, generator in ((plain, None), (one, None), (plain, torch.Generator()), (one, torch.Generator()))
    )
    assert [torch.equal(z, mean) for z in others] == [True, True, False]


def test_drawn_images_take_the_whole_path_and_answers_the_fitted_one() -> None:
    """A drawn image would keep the grain of its noise where a fitted path ends early."""
    model = image_mechanism("spatial").float().using(guidance=1.0, levels=(20.0, 1.0, 0.3), solver="trapezoid")
    parents = {name: value for name, value in observe(2).items() if name != "image"}
    noise = model.sample_noise(2, torch.Generator().manual_seed(0))
    drawn = model.drawing().predict(noise, parents)
    assert torch.equal(drawn, model.using(grid="log-sigma").predict(noise, parents))
    assert not torch.equal(drawn, model.predict(noise, parents))
    scm = GRAPH.scm(model)
    sample = scm.sample(2, torch.Generator().manual_seed(0), parents)["image"]
    noise = scm.sample_noise(2, torch.Generator().manual_seed(0))["image"]
    assert torch.equal(sample, model.drawing().predict(noise, parents))
