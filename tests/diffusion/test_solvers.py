"""The solvers of the ODE: what ε is told, their orders, exactness, and that images do not mix."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.process import EpsFn, make_grid
from dscm.diffusion.solvers import Solver, inversion_path, invert, sample
from dscm.diffusion.unet import UNet
from tests.support.gaussian import LINEAR, MEAN, STD, Recorder, gaussian_eps, gaussian_flow
from tests.support.networks import randn, scatter

X = MEAN + STD * randn(8, 1, 2, 2)
SOLVED = {"ddim": Solver("ddim", 50), "trapezoid": Solver("trapezoid", 30)}
ORDERS = [("ddim", 2, 1), ("2m", 0, 2), ("trapezoid", 1, 2), ("trapezoid", 3, 2)]


def small_unet() -> UNet:
    """Build a UNet with random weights everywhere."""
    torch.manual_seed(0)
    return scatter(UNet(1, 3, channels=4, multipliers=(1,), patch=2)).double().requires_grad_(False)


def make_network() -> tuple[EpsFn, Tensor]:
    """A real UNet with random weights everywhere, as a noise function of images (B, 1, 8, 8)."""
    network = small_unet()
    c = network.embed(randn(3, 3, seed=5))
    return lambda x, t: 0.2 * network(x, t, c[: len(x)]) + 0.9 * x, randn(3, 1, 8, 8)


@pytest.mark.parametrize(("kind", "evaluations", "order"), ORDERS)
def test_order_of_generation(kind: str, evaluations: int, order: int) -> None:
    """Twice the steps cut the error to a half, or a quarter, on the way to the smallest σ of the grid."""
    x, errors = randn(8, 1, 2, 2), []
    for steps in (160, 320, 640):
        grid = make_grid(LINEAR, steps, sigma_min=1e-4)  # so small that the last step errs by nothing
        made = sample(gaussian_eps, x, LINEAR, grid, Solver(kind, evaluations))
        errors.append((made - gaussian_flow(x, grid)).abs().max().item())
    ratios = [errors[0] / errors[1], errors[1] / errors[2]]
    assert all(0.75 * 2**order < ratio < 1.4 * 2**order for ratio in ratios), ratios


@pytest.mark.parametrize(("kind", "evaluations", "order"), ORDERS)
def test_order_of_inversion(kind: str, evaluations: int, order: int) -> None:
    """The noise that is abducted from x is the one whose flow ends at x, with the error of the solver's order."""
    errors = []
    for steps in (30, 60, 120):
        grid = make_grid(LINEAR, steps, sigma_min=1e-4)
        u = invert(gaussian_eps, X, LINEAR, grid, Solver(kind, evaluations))
        errors.append((gaussian_flow(u, grid) - X).abs().max().item())
    assert errors[0] / errors[1] > 0.75 * 2**order and errors[1] / errors[2] > 0.75 * 2**order, errors


@pytest.mark.parametrize("kind", SOLVED)
@pytest.mark.parametrize("grid", ["log-sigma", "edm"])
def test_exact_solvers_are_exact_on_a_network(kind: str, grid: str) -> None:
    """Up and down again is the identity, on a UNet with random weights, at seven steps, and so is down and up."""
    eps_fn, x = make_network()
    steps = make_grid(LINEAR, 7, grid)
    u = invert(eps_fn, x, LINEAR, steps, SOLVED[kind])
    assert (u - x).abs().max() > 0.1
    torch.testing.assert_close(sample(eps_fn, u, LINEAR, steps, SOLVED[kind]), x, rtol=0, atol=1e-10)
    image = sample(eps_fn, x, LINEAR, steps, SOLVED[kind])
    torch.testing.assert_close(invert(eps_fn, image, LINEAR, steps, SOLVED[kind]), x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", SOLVED)
def test_each_evaluation_helps(kind: str) -> None:
    """The round trip gets closer with every evaluation."""
    eps_fn, x = make_network()
    grid, errors = make_grid(LINEAR, 10), []
    for evaluations in (1, 2, 4, 8):
        u = invert(eps_fn, x, LINEAR, grid, Solver(kind, evaluations))
        errors.append((sample(eps_fn, u, LINEAR, grid, Solver(kind, evaluations)) - x).abs().max().item())
    assert all(fewer > 1.5 * more for fewer, more in zip(errors, errors[1:])), errors


def test_acceleration_solves_where_iteration_turns_back_and_forth() -> None:
    """Of x' = step(x; ε(x')) with a stiff ε: plain iteration would move farther every time."""
    grid = make_grid(LINEAR, 2, sigma_min=1.0, sigma_max=8.0)
    moved = []
    stiff = Solver("ddim", 12)
    path = list(inversion_path(lambda x, t: 0.9 * x, X, LINEAR, grid, stiff, lambda m: moved.append(m.max().item())))
    assert moved[-1] < 1e-9
    torch.testing.assert_close(sample(lambda x, t: 0.9 * x, path[-1], LINEAR, grid), X, rtol=0, atol=1e-9)


@pytest.mark.parametrize("slope", [-4.0, -0.5, 0.3, 0.9, 3.0])
def test_acceleration_goes_no_farther_than_the_last_iteration_went(slope: float) -> None:
    """Where an iteration is linear with slope λ, it is extrapolated by the share λ/(λ − 1), kept within [-1, 1]."""
    grid = make_grid(LINEAR, 1, sigma_min=1.0, sigma_max=3.0)
    u = invert(lambda x, t: slope / 2 * x / LINEAR.alpha_bar(t[0]).sqrt(), X, LINEAR, grid, Solver("ddim", 2))
    first = X + slope * (X + slope * X)
    second = X + slope * first
    share = min(1.0, max(-1.0, slope / (slope - 1)))
    torch.testing.assert_close(u / LINEAR.alpha_bar(grid[0]).sqrt(), second - share * (second - first))


def test_an_implicit_step_begins_with_half_of_the_last_change() -> None:
    """The first guess goes along ε + (ε − ε₋)/2, of the last two levels; that of the first step along ε."""
    grid = make_grid(LINEAR, 4)
    a = LINEAR.alpha_bar(grid.flip(0))
    level = (1 / a - 1).sqrt()
    recorder = Recorder(lambda x, t: x.sin() + t[0] / 1000)
    invert(recorder, X, LINEAR, grid, Solver("ddim", 1))
    eps = [recorder.eps_fn(x, t.expand(len(x))) for x, t in zip(recorder.images, recorder.timesteps)]
    state = X
    for k in range(4):
        direction = eps[0] if k == 0 else eps[k] + (eps[k] - eps[k - 1]) / 2
        guess = state + (level[k + 1] - level[k]) * direction
        torch.testing.assert_close(recorder.images[k + 1], guess * a[k + 1].sqrt())
        state = state + (level[k + 1] - level[k]) * eps[k + 1]


@pytest.mark.parametrize("kind", SOLVED)
def test_a_batch_is_its_images_one_at_a_time(kind: str) -> None:
    """Each image is solved on its own, whatever the others need."""
    network = small_unet()
    scale, x = torch.tensor([0.01, 0.3, 1.0])[:, None, None, None].double(), randn(3, 1, 8, 8)
    c = network.embed(randn(3, 3))
    grid, solver = make_grid(LINEAR, 6), Solver(kind, 6)

    def solve(part: slice) -> Tensor:
        return invert(lambda y, t: scale[part] * network(y, t, c[part]), x[part], LINEAR, grid, solver)

    apart = torch.cat([solve(slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(solve(slice(0, 3)), apart, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["2m", "trapezoid"])
def test_one_evaluation_a_step(kind: str) -> None:
    """K either way; the trapezoid evaluates where it starts as well."""
    grid, eps_fn = make_grid(LINEAR, 9), Recorder()
    solver = Solver(kind, {"2m": 0, "trapezoid": 1}[kind])
    sample(eps_fn, randn(2, 1, 2, 2), LINEAR, grid, solver)
    down = torch.stack(eps_fn.timesteps)
    assert torch.equal(down, grid if kind == "trapezoid" else grid[:-1])
    eps_fn.timesteps.clear()
    invert(eps_fn, randn(2, 1, 2, 2), LINEAR, grid, solver)
    assert torch.equal(torch.stack(eps_fn.timesteps), grid.flip(0)[: len(down)])


@pytest.mark.parametrize(("kind", "evaluations"), [("2m", 2), ("trapezoid", 0), ("euler", 1)])
def test_solvers_that_do_not_exist(kind: str, evaluations: int) -> None:
    with pytest.raises(ValueError, match="2m takes no fixed-point iterations|must be ddim, 2m or trapezoid"):
        Solver(kind, evaluations)
