"""Evaluate a mechanism on test digits: every metric of every image, one batch at a time."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dscm.evaluation import metrics
from dscm.data.scaling import to_levels, to_signed
from dscm.data.truth import Truth
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.oracle import Oracle
from dscm.diffusion.sampling import intervening
from dscm.causal.scm import SCM

PerImage = dict[tuple[str, ...], Tensor]  # the path of a metric in a record → one number, or one a cycle, per image
Distance = Callable[[Tensor, Tensor], Tensor]
TRIES = 1000  # draws of a value that must differ from the factual one


@dataclass(frozen=True)
class Task:
    """What every mechanism is asked about the same test digits.

    Args:
        obs: attributes (N,) and the image in [-1, 1], (N, C, H, W).
        interventions: by name, the values (N,) that each variable of the intervention is given.
        truths: for each intervention whose true image is known, that image, uint8 (N, C, H, W).
        places: for each intervention that changes one known place in an image, that place, bool (N, 1, H, W).
    """

    obs: dict[str, Tensor]
    interventions: dict[str, dict[str, Tensor]]
    truths: dict[str, Tensor]
    places: dict[str, Tensor]

    def batch(self, part: slice) -> "Task":
        """Take some of the images."""
        obs, truths, places = (
            {name: value[part] for name, value in x.items()} for x in (self.obs, self.truths, self.places)
        )
        asked = {name: {k: v[part] for k, v in do.items()} for name, do in self.interventions.items()}
        return Task(obs, asked, truths, places)


@dataclass(frozen=True)
class Judge:
    """What counterfactuals are measured with: the graph, the oracle, and distances between images by name."""

    graph: Graph
    oracle: Oracle
    distances: Mapping[str, Distance]

    def compare(self, path: tuple[str, ...], x: Tensor, y: Tensor, prefix: str = "") -> PerImage:
        """Return every distance between two batches under ``path``."""
        return {(*path, prefix + name): distance(x, y) for name, distance in self.distances.items()}

    def compare_cycles(self, path: tuple[str, ...], images: Iterable[Tensor], y: Tensor) -> PerImage:
        """Return every distance of each cycle's images to ``y``, (B, cycles)."""
        cycles = [self.compare(path, x, y) for x in images]
        return {key: torch.stack([cycle[key] for cycle in cycles], dim=1) for key in cycles[0]}


def set_task(
    graph: Graph,
    data: Mapping[str, Tensor],
    sampler: Literal["marginal", "different"],
    seed: int,
    truth: Truth | None = None,
    learned: LearnedAttributes | None = None,
) -> Task:
    """Draw the interventions on test images and render the true counterfactuals that a generator knows.

    Args:
        graph: the causal graph.
        data: test images and attributes as `sets.load` returns them.
        sampler: ``marginal`` permutes each attribute's values within the digits (the paper's); ``different`` gives
            each digit the value of another one, drawn at random, whose value differs. Binary attributes flip, those set
            together to what the first becomes; other attributes that are set together come from the same digit.
        seed: of the draws.
        truth: draws true counterfactuals; None where nobody can.
        learned: the fitted mechanisms of the attributes, where the graph has any.

    Raises:
        InputError: an attribute has one value only, and ``different`` cannot be drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = {variable.name: variable.kind for variable in graph.attributes}
    obs = {name: data[name] for name in kinds} | {"image": to_signed(data["image"])}
    interventions, truths, places = {}, {}, {}
    for name, together in graph.interventions.items():
        if all(kinds[other] == "binary" for other in together):
            interventions[name] = dict.fromkeys(together, 1 - data[name])
        else:
            donor = _choose_donors(name, data[name], sampler, generator)
            interventions[name] = {other: data[other][donor] for other in together}
    scm = graph.scm(learned=learned)
    for name, do in interventions.items():
        if truth is not None and name in truth.known:
            truths[name] = truth.draw(data, scm.counterfactual(obs, do))
        if truth is not None and name in truth.local:
            places[name] = truth.place(data, name)
    return Task(obs, interventions, truths, places)


def _choose_donors(name: str, values: Tensor, sampler: str, generator: torch.Generator) -> Tensor:
    """Choose, for each image, the one whose value it is given."""
    n = len(values)
    if sampler == "marginal":
        return torch.randperm(n, generator=generator).to(values.device)
    donor = torch.randint(n, (n,), generator=generator).to(values.device)
    for _ in range(TRIES):
        same = values[donor] == values
        if not same.any():
            return donor
        donor[same] = torch.randint(n, (int(same.sum()),), generator=generator).to(values.device)
    raise InputError(f"--sampler different: too few values of {name} among {n} digits differ; take more with --n")


def read_clock(device: torch.device) -> float:
    """Return the seconds on the clock once a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def evaluate_batch(
    scm: SCM, judge: Judge, task: Task, cycles: int, generator: torch.Generator | None = None
) -> tuple[PerImage, dict[str, Tensor]]:
    """Compute every metric of one batch with the current settings of the image's mechanism.

    Args:
        scm: the model.
        judge: what it is measured with.
        task: the batch.
        cycles: rounds of composition and of reversal.
        generator: of the noise that an observation leaves open.

    Returns:
        The metrics, ``("seconds",)``, of abduction and one prediction, and ``("unsolved",)``, of the inversion (as in
        `ImageNoise`), among them; and the images, uint8, by label:
        observation, composition, and each counterfactual with its reversal.
    """
    obs, x = task.obs, task.obs["image"]
    began = read_clock(x.device)
    noise = scm.abduct(obs, generator)
    composed = scm.predict(noise)["image"]
    seconds = (read_clock(x.device) - began) / len(x)
    result: PerImage = {("seconds",): torch.full((len(x),), seconds)}
    unsolved = getattr(noise["image"], "unsolved", None)
    if unsolved is not None and unsolved.numel():
        result["unsolved",] = unsolved
    result |= judge.compare_cycles(("composition",), metrics.compositions(scm, obs, composed, cycles, generator), x)
    images = {"observation": x, "composition": composed}
    for name, do in task.interventions.items():
        with intervening(scm.mechanisms["image"], do, obs):
            answer = scm.predict(noise, do)
            back = list(metrics.reversals(scm, obs, answer, do, cycles, generator))
        result |= judge.compare_cycles(("reversibility", name), back, x)
        for attribute, errors in metrics.effectiveness(judge.graph, judge.oracle, answer, obs).items():
            result |= {("effectiveness", name, attribute, metric): error for metric, error in errors.items()}
        result |= judge.compare(("identity", name), answer["image"], composed)
        result |= judge.compare(("identity", name), answer["image"], x, "factual_")
        if name in task.truths:
            truth = to_signed(task.truths[name])
            result["truth", name, "l1"] = metrics.l1(answer["image"], truth)
            result["truth", name, "factual_l1"] = metrics.l1(x, truth)
            if name in task.places:
                gone = (obs[name] == 1) & (do[name] == 0)
                split = metrics.l1_by_place(answer["image"], truth, task.places[name], gone)
                result |= {("truth", name, part): error for part, error in split.items()}
        images |= {f"do({name})": answer["image"], f"do({name}) reversed": back[0]}
    return result, {label: to_levels(image) for label, image in images.items()}
