"""The protocol of an evaluation: every metric of every image, batch by batch."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.graph import Graph
from dscm.causal.scm import SCM
from dscm.data.scaling import l1, to_levels, to_signed
from dscm.errors import InputError, option
from dscm.evaluation import metrics
from dscm.evaluation.task import Task
from dscm.oracle import Oracle

PerImage = dict[tuple[str, ...], Tensor]  # by the path of a metric in a record: one number, or one a cycle, per image
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Judge:
    """The instruments of measurement: the graph, the oracle, and distances between images by name."""

    graph: Graph
    oracle: Oracle | None
    distances: Mapping[str, Distance]

    def compare(self, path: tuple[str, ...], x: Tensor, y: Tensor, prefix: str = "") -> PerImage:
        """Return every distance between two batches under ``path``."""
        return {(*path, prefix + name): distance(x, y) for name, distance in self.distances.items()}

    def compare_cycles(self, path: tuple[str, ...], images: Iterable[Tensor], y: Tensor) -> PerImage:
        """Return every distance of each cycle's images to ``y``, (B, cycles)."""
        cycles = [self.compare(path, x, y) for x in images]
        return {key: torch.stack([cycle[key] for cycle in cycles], dim=1) for key in cycles[0]}


def read_clock(device: torch.device) -> float:
    """Return the time in seconds after a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def evaluate_batch(
    scm: SCM, judge: Judge, task: Task, cycles: int, generator: Source | None = None
) -> tuple[PerImage, dict[str, Tensor]]:
    """Compute every metric of one batch.

    Args:
        scm: the model.
        judge: the instruments.
        task: the batch.
        cycles: rounds of composition and of reversal.
        generator: source of noise that an observation leaves undetermined.

    Returns:
        The metrics, among them ``("seconds",)``, of abduction and one prediction, and ``("unsolved",)``, of the
        inversion, as in `ImageNoise`; and the images, uint8, by label: observation, composition, and each
        counterfactual with its reversal.

    Raises:
        InputError: an image is not finite.
    """
    obs, x = task.obs, task.obs["image"]
    start = read_clock(x.device)
    noise = scm.abduct(obs, generator)
    composed = scm.predict(noise)["image"]
    seconds = (read_clock(x.device) - start) / len(x)
    result: PerImage = {("seconds",): torch.full((len(x),), seconds)}
    unsolved = getattr(noise["image"], "unsolved", None)
    if unsolved is not None and unsolved.numel():
        result["unsolved",] = unsolved
    result |= judge.compare_cycles(("composition",), metrics.compositions(scm, obs, composed, cycles, generator), x)
    images = {"observation": x, "composition": composed}
    for name, do in task.interventions.items():
        counterfactual = scm.predict(noise, do, obs)
        restored = list(metrics.reversals(scm, obs, counterfactual, do, cycles, generator))
        result |= judge.compare_cycles(("reversibility", name), restored, x)
        for attribute, errors in metrics.effectiveness(judge.graph, judge.oracle, counterfactual, obs).items():
            result |= {("effectiveness", name, attribute, metric): error for metric, error in errors.items()}
        result |= judge.compare(("identity", name), counterfactual["image"], composed)
        result |= judge.compare(("identity", name), counterfactual["image"], x, "factual_")
        result |= _compare_truth(task, name, counterfactual["image"])
        images |= {f"do({name})": counterfactual["image"], f"do({name}) reversed": restored[0]}
    for label, image in images.items():
        if not image.isfinite().all():
            raise InputError(f"{label}: an image is not finite; smaller {option('guidance')} or more steps may help")
    return result, {label: to_levels(image) for label, image in images.items()}


def _compare_truth(task: Task, name: str, image: Tensor) -> PerImage:
    """Compare counterfactual images, (B, C, H, W), with the true ones, where these are known."""
    if name not in task.truths:
        return {}
    truth = to_signed(task.truths[name])
    result: PerImage = {
        ("truth", name, "l1"): l1(image, truth),
        ("truth", name, "factual_l1"): l1(task.obs["image"], truth),
    }
    if name in task.places:
        removal = (task.obs[name] == 1) & (task.interventions[name][name] == 0)
        split = metrics.l1_by_place(image, truth, task.places[name], removal)
        result |= {("truth", name, part): error for part, error in split.items()}
    return result
