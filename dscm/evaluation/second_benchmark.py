"""The scores of Melistas et al. (2024), each by its definition there, of one model of Morpho-MNIST.

Known differences: they draw the digits themselves, train predictors of thickness and intensity where ours are measured,
take the edges of bins for realism and minimality from the training set, and draw the variable that is set for realism
and minimality once a batch, where here it is drawn for each image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.scm import SCM
from dscm.data.scaling import l1, to_levels
from dscm.evaluation.bins import group_values
from dscm.evaluation.features import Embedding, embed
from dscm.evaluation.latents import SIZE, latent_distance, pad
from dscm.evaluation.minimality import latent_divergence
from dscm.evaluation.realism import frechet_distance
from dscm.evaluation.statistics import bootstrap_interval
from dscm.evaluation.tables import table
from dscm.evaluation.task import Task, set_task
from dscm.oracle import Oracle, observe

VARIABLES = ("thickness", "intensity", "digit")  # of their graph
CYCLES = (1, 10)
Scores = dict[tuple[str, ...], Tensor]


@dataclass(frozen=True)
class Instruments:
    """What measures.

    Args:
        graph: the causal graph.
        oracle: predicts the digit.
        latents: ``embed`` of the autoencoder of `fit_latents`, of images of 32×32.
        inception: the embedding of that name of `load_embeddings`; None leaves the Fréchet distance out.
        training: training images, uint8 (M, 1, 28, 28), the real ones of the Fréchet distance.
    """

    graph: Graph
    oracle: Oracle | None
    latents: Embedding
    inception: Embedding | None
    training: Tensor


def scale_l1(size: int) -> float:
    """Return the factor from an L1 on [0, 1] to theirs, on [0, 255] and 32×32: 195.2 for images of 28×28.

    The border of (32² − size²) pixels is black before and after and adds nothing to the sum of differences, so the mean
    over 32² pixels is ``255·size²/32²`` times the mean over size². It holds for a model without a border of its own.
    """
    return 255 * size**2 / SIZE**2


@torch.no_grad()
def measure(scm: SCM, instruments: Instruments, data: Mapping[str, Tensor], seed: int, batch: int) -> Scores:
    """Compute their scores of a model.

    Args:
        scm: the model; guidance is its own, as in any query.
        instruments: what measures.
        data: test images, uint8 (N, 1, 28, 28), and attributes (N,).
        seed: the seed of the draws.
        batch: images at a time.

    Returns:
        By path, a number for each image, (N,): ``(composition, k)`` after k cycles; ``(effectiveness, do, attribute)``,
        the absolute difference in raw units, of digits the accuracy; ``(minimality, do)`` and ``(minimality,)``, CLD of
        each variable and of one drawn for each image. ``(fid,)`` is a single number, ().
    """
    graph, images = instruments.graph, data["image"]
    task = set_task(graph, data, "bins", seed)
    starts = range(0, len(images), batch)
    parts = [_measure_batch(scm, instruments, task.batch(slice(i, i + batch)), seed, i) for i in starts]
    scores = {path: torch.cat([values[path] for values, _ in parts]) for path in parts[0][0]}
    counterfactual = {name: torch.cat([shown[name] for _, shown in parts]) for name in parts[0][1]}
    scores |= _measure_minimality(instruments, data, task, counterfactual)
    generator = torch.Generator().manual_seed(seed)
    choice = torch.randint(len(counterfactual), (len(images),), generator=generator).to(images.device)
    scores["minimality",] = choose([scores["minimality", name] for name in counterfactual], choice)
    if instruments.inception is not None:
        generated = choose(list(counterfactual.values()), choice)
        pair = (embed(instruments.inception, pad(some)) for some in (instruments.training, generated))
        scores["fid",] = frechet_distance(*pair)
    return scores


def show(scores: Mapping[tuple[str, ...], Tensor]) -> str:
    """Tabulate scores as Markdown: means over the images with 95% bootstrap intervals; FID has none.

    It is left out where `frechet_distance` has too few images.
    """
    lines = []
    for path, values in scores.items():
        low, high = bootstrap_interval("mean", values).tolist() if values.dim() else (None, None)
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        if values.dim() or not values.isnan():
            lines.append([" ".join(path), f"{values.double().mean():.3f}{interval}"])
    return table(["score", "value"], lines)


def choose(options: list[Tensor], choice: Tensor) -> Tensor:
    """Take, for each image, the option of its choice, (N,), of tensors (N, …)."""
    return torch.stack(options)[choice, torch.arange(len(choice), device=choice.device)]


def _measure_batch(
    scm: SCM, instruments: Instruments, task: Task, seed: int, start: int
) -> tuple[Scores, dict[str, Tensor]]:
    """Return composition and effectiveness of a batch, and its counterfactuals, uint8, by the variable that was set."""
    graph, obs, x = instruments.graph, task.obs, task.obs["image"]
    generator = make_streams(seed, range(start, start + len(x)), x.device)
    scores: Scores = {}
    factor, composed = scale_l1(x.shape[-1]), x
    for cycle in range(1, max(CYCLES) + 1):
        composed = scm.counterfactual({**obs, "image": composed}, {}, generator)["image"]
        if cycle in CYCLES:
            scores["composition", str(cycle)] = factor * l1(composed, x)
    noise, images = scm.abduct(obs, generator), {}
    for name, do in task.interventions.items():
        if name not in VARIABLES:
            continue
        counterfactual = scm.predict(noise, do, obs)
        found = observe(counterfactual["image"], graph, instruments.oracle)
        for variable in (v for v in graph.attributes if v.name in VARIABLES):
            target = counterfactual[variable.name]
            error = found[variable.name] == target if variable.discrete else (found[variable.name] - target).abs()
            scores["effectiveness", name, variable.name] = error.double()
        images[name] = to_levels(counterfactual["image"])
    return scores, images


def _measure_minimality(
    instruments: Instruments, data: Mapping[str, Tensor], task: Task, counterfactual: Mapping[str, Tensor]
) -> Scores:
    """Return CLD under each intervention; the test images are the reference."""
    factual = embed(instruments.latents, pad(data["image"]))
    scores: Scores = {}
    for name, images in counterfactual.items():
        discrete = instruments.graph.variable(name).discrete
        changed, groups = (
            group_values(value, data[name], discrete) for value in (task.interventions[name][name], data[name])
        )
        latents = embed(instruments.latents, pad(images))
        scores["minimality", name] = latent_divergence(latents, factual, changed, groups, latent_distance)
    return scores
