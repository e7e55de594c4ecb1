"""The protocol of an evaluation: every metric of every image, batch by batch."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.graph import Graph
from dscm.causal.mechanisms import Noise
from dscm.causal.scm import SCM
from dscm.data.scaling import l1, to_levels, to_signed
from dscm.errors import InputError, option
from dscm.evaluation import metrics
from dscm.evaluation.task import Task
from dscm.oracle import Oracle, observe

PerImage = dict[tuple[str, ...], Tensor]  # by the path of a metric in a record: one number, or one a cycle, per image
Distance = Callable[[Tensor, Tensor], Tensor]
SAVED = "l1_8bit"  # L1 of images that are saved in 8 bits between two queries


@dataclass(frozen=True)
class Judge:
    """The instruments of measurement: the graph, the oracle, and distances between images by name."""

    graph: Graph
    oracle: Oracle | None
    distances: Mapping[str, Distance]

    def compare(self, path: tuple[str, ...], x: Tensor, y: Tensor, prefix: str = "") -> PerImage:
        """Return every distance between two batches under ``path``."""
        return {(*path, prefix + name): distance(x, y) for name, distance in self.distances.items()}

    def read(self, obs: Mapping[str, Tensor]) -> PerImage:
        """Return the errors of the oracle, or of measurement, on the observed images themselves."""
        found = observe(obs["image"], self.graph, self.oracle)
        errors = {v.name: metrics.attribute_errors(v, found[v.name], obs[v.name]) for v in self.graph.attributes}
        return {("oracle", name, metric): error for name, e in errors.items() for metric, error in e.items()}

    def judge(
        self, path: tuple[str, ...], values: Mapping[str, Tensor], obs: Mapping[str, Tensor], changed: Tensor
    ) -> PerImage:
        """Return `metrics.effectiveness` of images under ``path``."""
        found = metrics.effectiveness(self.graph, self.oracle, values, obs, changed)
        return {
            (*path, attribute, name): error for attribute, errors in found.items() for name, error in errors.items()
        }

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
    scm: SCM, judge: Judge, task: Task, cycles: int, generator: Source | None = None, by_target: bool = True
) -> tuple[PerImage, dict[str, Tensor]]:
    """Compute every metric of one batch.

    Args:
        scm: the model.
        judge: the instruments.
        task: the batch.
        cycles: rounds of composition and of reversal.
        generator: source of noise that an observation leaves undetermined.
        by_target: whether guidance depends on what is intervened on, and so does the composition.

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
    composed = _compose(scm, noise, task, next(iter(task.interventions)))
    seconds = (read_clock(x.device) - start) / len(x)
    result: PerImage = {("seconds",): torch.full((len(x),), seconds)}
    unsolved = getattr(noise["image"], "unsolved", None)
    if unsolved is not None and unsolved.numel():
        result["unsolved",] = unsolved
    result |= judge.read(obs)
    images = {"observation": x, "composition": composed}
    for position, (name, do) in enumerate(task.interventions.items()):
        if by_target and position:
            composed = _compose(scm, noise, task, name)
        if by_target or not position:
            chains = _compose_again(scm, judge, task, name, composed, cycles, generator)
        result |= {("composition", name, metric): value for metric, value in chains.items()}
        counterfactual = scm.predict(noise, do, obs)
        result |= judge.judge(("effectiveness", name), counterfactual, obs, task.changed(name))
        result |= judge.compare(("identity", name), counterfactual["image"], composed)
        result |= judge.compare(("identity", name), counterfactual["image"], x, "factual_")
        result |= _compare_truth(judge, task, name, counterfactual)
        distances, restored = _reverse(scm, judge, task, name, counterfactual, cycles, generator)
        result |= distances
        images |= {f"do({name})": counterfactual["image"], f"do({name}) reversed": restored}
    for label, image in images.items():
        if not image.isfinite().all():
            raise InputError(f"{label}: an image is not finite; smaller {option('guidance')} or more steps may help")
    return result, {label: to_levels(image) for label, image in images.items()}


def _compose(scm: SCM, noise: Mapping[str, Noise], task: Task, name: str) -> Tensor:
    """Predict the images under the null intervention on what an intervention sets, guided as for that one."""
    return scm.predict(noise, {variable: task.obs[variable] for variable in task.interventions[name]})["image"]


def _compose_again(
    scm: SCM, judge: Judge, task: Task, name: str, first: Tensor, cycles: int, generator: Source | None
) -> dict[str, Tensor]:
    """Return every distance of each cycle's composition, (B, cycles), and its L1 with images saved between cycles."""
    obs, do = task.obs, {variable: task.obs[variable] for variable in task.interventions[name]}
    floats = metrics.compositions(scm, obs, first, do, cycles, generator)
    saved = metrics.compositions(scm, obs, first, do, cycles, generator, metrics.to_8_bits)
    distances = judge.compare_cycles((), floats, obs["image"])
    distances[(SAVED,)] = torch.stack([l1(image, obs["image"]) for image in saved], dim=1)
    return {metric: value for (metric,), value in distances.items()}


def _reverse(
    scm: SCM,
    judge: Judge,
    task: Task,
    name: str,
    counterfactual: Mapping[str, Tensor],
    cycles: int,
    generator: Source | None,
) -> tuple[PerImage, Tensor]:
    """Return the distances of each cycle's reversal, (B, cycles), as `_compose_again`, and the first images."""
    obs, x, do = task.obs, task.obs["image"], task.interventions[name]
    floats = list(metrics.reversals(scm, obs, counterfactual, do, cycles, generator))
    saved = metrics.reversals(scm, obs, counterfactual, do, cycles, generator, metrics.to_8_bits)
    distances = judge.compare_cycles(("reversibility", name), floats, x)
    distances["reversibility", name, SAVED] = torch.stack([l1(image, x) for image in saved], dim=1)
    return distances, floats[0]


def _compare_truth(judge: Judge, task: Task, name: str, counterfactual: Mapping[str, Tensor]) -> PerImage:
    """Compare counterfactual images, (B, C, H, W), with the true ones, where these are known.

    Beside the distance stand that of the unchanged observation, and the floor: that of the observation to itself as
    the generator draws it. The oracle also judges the true images: no model can be expected to score above them.
    """
    if name not in task.truths:
        return {}
    truth, image, x = to_signed(task.truths[name]), counterfactual["image"], task.obs["image"]
    result: PerImage = {("truth", name, "l1"): l1(image, truth), ("truth", name, "factual_l1"): l1(x, truth)}
    if task.redrawn is not None:
        result["truth", name, "floor_l1"] = l1(to_signed(task.redrawn), x)
    result |= judge.judge(("ceiling", name), {**counterfactual, "image": truth}, task.obs, task.changed(name))
    if name in task.places:
        removal = (task.obs[name] == 1) & (task.interventions[name][name] == 0)
        split = metrics.l1_by_place(image, truth, task.places[name], removal)
        result |= {("truth", name, part): error for part, error in split.items()}
    return result
