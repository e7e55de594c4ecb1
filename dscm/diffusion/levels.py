"""Noise levels of a short path, placed where its errors arise, fitted to a trained mechanism.

Along a fine path, where x and the clean image D are known at M levels, every step of the trapezoid from one level to
another can be tried without the network: its error is that of ``(D + D')/2`` against what the fine path does between
the two. The levels of K steps with the least sum of such errors are a shortest path of K edges (as Watson et al. 2021,
"Learning to efficiently sample from diffusion probabilistic models", place the steps of DDPM by likelihood).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from dscm.causal.mechanisms import Parents
from dscm.data.scaling import to_signed
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.process import SIGMA_MAX, EpsFn, Schedule, ddim_step
from dscm.diffusion.solvers import Solver, clean_image, eps_towards, inversion_path, sampling_path

STEPS = 12  # each way
ENDS = (SIGMA_MAX, 0.02)  # noise levels between which images are abducted and predicted
CANDIDATES = 48  # steps of the fine path, at whose ends levels may lie
FINE = Solver("trapezoid", 1)
IMAGES = 16  # that a fit takes


class Trace(NamedTuple):
    """What is known along a fine path: ᾱ, descending, float64 (M,), and there x and D, each (M, B, C, H, W)."""

    alpha_bar: Tensor
    states: Tensor
    clean: Tensor


def fit_levels(
    mechanism: DiffusionMechanism,
    data: Mapping[str, Tensor],
    steps: int = STEPS,
    ends: tuple[float, float] = ENDS,
) -> tuple[float, ...]:
    """Fit the levels of K steps to a trained mechanism, with the guidance in use; with none, if it cannot be guided.

    Args:
        mechanism: the mechanism.
        data: images that it was not trained on, uint8 (N, C, H, W), and their parents, each (N,); the first are taken,
            and as counterfactual parents those of the next image.
        steps: K, at most `CANDIDATES`.
        ends: the highest and the lowest level σ. At the highest u is to be N(0, I) whatever the image and its parents
            are: lower ones cost less and keep more of an image, for what they no longer abduct.

    Returns:
        Levels σ, descending, K + 1 of them, to three digits.
    """
    if not mechanism.null_trained:
        mechanism = mechanism.using(guidance=1.0)
    parents = {variable.name: data[variable.name][:IMAGES] for variable in mechanism.scaling.variables}
    others = {name: value.roll(1) for name, value in parents.items()}
    images = to_signed(data["image"][:IMAGES])
    return place_levels(trace_paths(mechanism, images, parents, others, ends), steps)


@torch.no_grad()
def trace_paths(
    mechanism: DiffusionMechanism, value: Tensor, parents: Parents, others: Parents, ends: tuple[float, float]
) -> list[Trace]:
    """Trace the fine paths of abduction, and of prediction as it is guided.

    Args:
        mechanism: a trained mechanism, with the guidance in use.
        value: images in [-1, 1], (B, C, H, W), that it was not trained on.
        parents: theirs, each (B,).
        others: counterfactual ones, each (B,).
        ends: the highest and the lowest level σ.
    """
    schedule = mechanism.schedule
    high, low = (math.log(end) for end in ends)
    grid = schedule.timestep(torch.linspace(high, low, CANDIDATES + 1, dtype=torch.float64).exp())
    pa, new = mechanism.scaling(parents), mechanism.scaling(others)
    z = mechanism.encode(value, pa)
    observed, changed = mechanism.eps(mechanism.condition(z, pa)), mechanism.guide(mechanism.condition(z, new))
    with tqdm(total=2 * CANDIDATES + 1, desc="placing steps", unit="step") as bar:
        up = [*_show(inversion_path(observed, value, schedule, grid, FINE), bar)]
        down = [*_show(sampling_path(changed, up[-1], schedule, grid, FINE), bar)]
    return [trace(observed, up, schedule, grid.flip(0)), trace(changed, [up[-1], *down], schedule, grid)]


def _show(states: Iterable[Tensor], bar: tqdm) -> Iterator[Tensor]:
    """Yield the states of a path, and move a bar with each."""
    for state in states:
        bar.update()
        yield state


def trace(eps_fn: EpsFn, states: Iterable[Tensor], schedule: Schedule, timesteps: Tensor) -> Trace:
    """Note the clean images along a path.

    Args:
        eps_fn: the field that the path follows.
        states: its states x, each (B, C, H, W).
        schedule: the noise schedule.
        timesteps: of the states, ascending or descending, (M,).
    """
    pairs = [(x, t.to(x.device, x.dtype).expand(len(x))) for x, t in zip(states, timesteps)]
    a, order = schedule.alpha_bar(timesteps), timesteps.argsort().tolist()
    clean = [clean_image(x, eps_fn(x, t), level) for (x, t), level in zip(pairs, a)]
    return Trace(a[order], torch.stack([pairs[i][0] for i in order]), torch.stack([clean[i] for i in order]))


def step_errors(found: Trace) -> Tensor:
    """Return the errors of the trapezoid's steps between any two levels, up and down added, RMS of x.

    They are of x, not of x̄, since the steps that follow shrink an error at a high level about so much.

    Returns:
        (M, M), float64; ∞ on the diagonal and below it.
    """
    levels, x, clean = found
    levels = levels.to(x.device)
    errors = torch.full((len(levels), len(levels)), math.inf, dtype=torch.float64)
    for i in range(len(levels) - 1):
        low, high = levels[i], levels[i + 1 :].reshape(-1, 1, 1, 1, 1)
        mean = (clean[i] + clean[i + 1 :]) / 2
        up = ddim_step(x[i], eps_towards(x[i], mean, low), low, high) - x[i + 1 :]
        down = ddim_step(x[i + 1 :], eps_towards(x[i + 1 :], mean, high), high, low) - x[i]
        errors[i, i + 1 :] = _rms(up) + _rms(down)
    return errors


def _rms(x: Tensor) -> Tensor:
    """Return the root mean square over pixels, averaged over images: (M, B, C, H, W) to (M,), float64, on the CPU."""
    return x.square().mean(dim=(2, 3, 4)).sqrt().mean(dim=1).double().cpu()


def place_levels(traces: Sequence[Trace], steps: int) -> tuple[float, ...]:
    """Return the levels of the steps whose errors along all traces, of the same levels, have the least sum.

    Returns:
        Levels σ, descending, K + 1 of them, to three digits.
    """
    nodes = find_shortest(torch.stack([step_errors(found) for found in traces]).sum(dim=0), steps)
    sigma = (1 / traces[0].alpha_bar[nodes].flip(0) - 1).sqrt()
    return tuple(float(f"{level:.3g}") for level in sigma.tolist())


def find_shortest(errors: Tensor, steps: int) -> list[int]:
    """Return the nodes, first to last, of the path of ``steps`` edges from node 0 to the last with the least sum.

    Args:
        errors: of the edge from i to j, (M, M).
        steps: K, at most M − 1.
    """
    sums = torch.full((len(errors),), math.inf, dtype=errors.dtype)
    sums[0] = 0
    origins = []
    for _ in range(steps):
        sums, origin = (sums[:, None] + errors).min(dim=0)
        origins.append(origin)
    path = [len(errors) - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]
