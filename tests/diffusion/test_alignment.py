"""Counterfactual trajectory alignment and residual abduction, with small random networks in float64."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.alignment import Alignment, align, at_timestep, residuals
from dscm.diffusion.guidance import EpsFn, guided, shifted
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.process import ddim_step, eps_between, linear_schedule, make_grid
from dscm.diffusion.solvers import Solver, inversion_path, sample
from tests.support.networks import PARENTS, X, make

SCHEDULE, STEPS, WEIGHT = linear_schedule(), 6, 3.0
GUIDED = {"guidance": WEIGHT, "guidance_interval": (0.0, 1000.0), "steps": STEPS}
GRID = make_grid(SCHEDULE, STEPS)


def abducted(**settings: object) -> tuple[DiffusionMechanism, Tensor]:
    """Return a mechanism and, under the null intervention, what it makes of the images."""
    model = make(std=0.15).requires_grad_(False).using(**GUIDED, solver="ddim", fixed_point=3, **settings)
    return model, model.predict(model.abduct(X, PARENTS), PARENTS)


def error(image: Tensor) -> Tensor:
    """Return the mean squared distance of each image to the observation."""
    return (image - X).square().mean(dim=(1, 2, 3))


def toy() -> tuple:
    """Return a noise function, condition, null token and inversion path whose gradients are simple."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 64, generator=generator, dtype=torch.float64)

    def eps(c: Tensor) -> EpsFn:
        return lambda x, t: 0.3 * x + 0.2 * torch.tanh(c @ weights).view_as(x)

    condition, null = torch.randn(7, 3, generator=generator, dtype=torch.float64).split([6, 1])
    path = list(inversion_path(eps(condition), X, SCHEDULE, GRID, Solver(evaluations=3)))[::-1]
    return eps, condition, null[0], path


def test_eps_between_is_the_noise_of_the_step() -> None:
    """At every pair of levels, upwards and down to the clean image."""
    a = SCHEDULE.alpha_bar(GRID)
    eps = torch.randn(X.shape, generator=torch.Generator().manual_seed(0), dtype=X.dtype)
    for start, end in [(a[k], a[k + 1]) for k in range(STEPS)] + [(a[3], a[1])]:
        torch.testing.assert_close(eps_between(X, ddim_step(X, eps, start, end), start, end), eps, rtol=0, atol=1e-9)


def test_values_are_found_by_their_timestep() -> None:
    """The first belongs to the noisiest level; float32 times find those of a float64 grid."""
    values = torch.arange(12.0).view(2, 6)
    find = at_timestep(GRID, values)
    for k in range(STEPS):
        assert torch.equal(find(GRID[k].float().expand(2)), values[:, k])


@torch.no_grad()
def test_residual_abduction_makes_composition_exact_at_any_guidance() -> None:
    """However few fixed-point iterations; without it the guided path ends elsewhere."""
    _, plain = abducted()
    assert error(plain).min() > 1e-4
    _, image = abducted(abduction="residual")
    torch.testing.assert_close(image, X, rtol=0, atol=1e-9)


@torch.no_grad()
def test_residuals_vanish_on_a_path_that_the_noise_function_made() -> None:
    eps, condition, _, _ = toy()
    eps_fn = eps(condition)
    path = list(inversion_path(eps_fn, X, SCHEDULE, GRID, Solver(evaluations=60)))[::-1]
    missing = residuals(eps_fn, path, SCHEDULE, GRID)
    assert missing.shape == (6, STEPS, 1, 8, 8)
    torch.testing.assert_close(missing, torch.zeros_like(missing), rtol=0, atol=1e-8)
    back = sample(shifted(eps_fn, at_timestep(GRID, missing)), path[0], SCHEDULE, GRID)
    torch.testing.assert_close(back, X, rtol=0, atol=1e-8)


def test_one_step_is_the_gradient_of_the_squared_distance() -> None:
    """The first token is ∅ − η∇‖x_{T−1} − x^ω_{T−1}‖², by finite differences."""
    eps, condition, null, path = toy()
    rate, h = 1e-3, 1e-5
    a = SCHEDULE.alpha_bar(GRID)
    tokens = align(eps, condition, null, WEIGHT, path, SCHEDULE, GRID, Alignment(rate))

    def loss(token: Tensor) -> Tensor:
        given, without = eps(condition)(path[0], None), eps(token)(path[0], None)
        noise = without + WEIGHT * (given - without)
        return (path[1] - ddim_step(path[0], noise, a[0], a[1])).square().sum(dim=(1, 2, 3))

    start = null.expand(6, 3)
    basis = h * torch.eye(3, dtype=torch.float64)
    gradient = torch.stack([(loss(start + e) - loss(start - e)) / (2 * h) for e in basis], dim=1)
    torch.testing.assert_close(tokens[:, 0], start - rate * gradient, rtol=1e-5, atol=1e-9)


def test_the_observation_is_bound_once() -> None:
    """Of what the network is given, only the tokens change: once a gradient step, and once to move on."""
    eps, condition, null, path = toy()
    bound: list[Tensor] = []
    align(lambda c: (bound.append(c), eps(c))[1], condition, null, WEIGHT, path, SCHEDULE, GRID, Alignment(steps=5))
    assert [c is condition for c in bound] == [True] + STEPS * 6 * [False]


@pytest.mark.parametrize(("rate", "steps", "optimiser"), [(0.1, 1, "sgd"), (0.3, 5, "sgd"), (0.05, 8, "adam")])
def test_alignment_brings_the_composition_back(rate: float, steps: int, optimiser: str) -> None:
    """Of every image; more steps bring it nearer."""
    _, plain = abducted()
    _, aligned = abducted(abduction="dynamic", cta_lr=rate, cta_steps=steps, cta_optimizer=optimiser)
    assert (error(aligned) < error(plain)).all()
    if steps > 1:
        assert error(aligned).mean() < 0.7 * error(plain).mean()


def test_replay_goes_where_the_alignment_went() -> None:
    """Down the grid with the token of each step, which the alignment itself went on with."""
    eps, condition, null, path = toy()
    tokens = align(eps, condition, null, WEIGHT, path, SCHEDULE, GRID, Alignment(0.01))
    a, x = SCHEDULE.alpha_bar(GRID), path[0]
    for k in range(STEPS):
        noise = torch.lerp(eps(tokens[:, k])(x, None), eps(condition)(x, None), WEIGHT)
        x = ddim_step(x, noise, a[k], a[k + 1])
    replay = guided(eps, condition, at_timestep(GRID, tokens), WEIGHT)
    torch.testing.assert_close(sample(replay, path[0], SCHEDULE, GRID), x / a[-1].sqrt())


@pytest.mark.parametrize(("rate", "steps", "optimiser"), [(0.01, 1, "sgd"), (0.05, 4, "adam")])
def test_batch_equals_one_image_at_a_time(rate: float, steps: int, optimiser: str) -> None:
    """Each image has its own loss."""
    model, _ = abducted(abduction="dynamic", cta_lr=rate, cta_steps=steps, cta_optimizer=optimiser)
    together = model.abduct(X, PARENTS).tokens
    for i in range(len(X)):
        one = slice(i, i + 1)
        alone = model.abduct(X[one], {name: value[one] for name, value in PARENTS.items()}).tokens
        torch.testing.assert_close(alone, together[one], rtol=1e-9, atol=1e-9)


def test_images_within_the_tolerance_keep_their_token() -> None:
    eps, condition, null, path = toy()
    tokens = align(eps, condition, null, WEIGHT, path, SCHEDULE, GRID, Alignment(1.0, 3, "adam", tolerance=1e9))
    assert torch.equal(tokens, null.expand(6, STEPS, 3))


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_an_image_within_the_tolerance_keeps_its_token_while_others_are_tuned(optimiser: str) -> None:
    """Each image stops on its own: the first, which is conditioned on ∅ itself, has next to nothing to bring back."""
    eps, condition, null, _ = toy()
    condition = torch.cat([null[None], condition[1:]])
    path = list(inversion_path(eps(condition), X, SCHEDULE, GRID, Solver(evaluations=1)))[::-1]
    alignment = Alignment(0.01, 3, optimiser, tolerance=0.01)
    tokens = align(eps, condition, null, WEIGHT, path, SCHEDULE, GRID, alignment)
    assert torch.equal(tokens[0], null.expand(STEPS, 3))
    assert (tokens[1:] != null).any(dim=2).any(dim=1).all()


def test_neither_model_nor_images_change() -> None:
    """And no graph is kept, also inside `torch.no_grad`."""
    model = make(std=0.15).requires_grad_(False).using(**GUIDED | {"steps": 2}, abduction="dynamic")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = X.clone()
    with torch.no_grad():
        noise = model.abduct(x, PARENTS)
    assert not noise.tokens.requires_grad and torch.equal(x, X)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_without_guidance_there_is_nothing_to_tune() -> None:
    model = make()
    for abduction in ("dynamic", "residual"):
        noise = model.using(guidance=1.0, steps=3, abduction=abduction).abduct(X, PARENTS)
        assert not noise.tokens.numel() and not noise.residuals.numel()


def test_tokens_stay_where_nothing_is_guided() -> None:
    """Outside the interval the null token has no say; inside it is tuned."""
    partly = GUIDED | {"guidance_interval": (1.0, 10.0)}
    model = make(std=0.15).requires_grad_(False).using(**partly, abduction="dynamic")
    tokens = model.abduct(X, PARENTS).tokens
    alpha = SCHEDULE.alpha_bar(GRID[:-1])
    guided_steps = [1.0 <= (1 / a - 1).sqrt() <= 10.0 for a in alpha]
    assert True in guided_steps and False in guided_steps
    before = model.null.expand(6, -1)
    for k, inside in enumerate(guided_steps):
        assert torch.equal(tokens[:, k], before) != inside
        before = tokens[:, k]
