"""The protocol of an evaluation: every metric of every image, batch by batch."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.scm import Effect
from dscm.data.scaling import l1, to_levels, to_signed
from dscm.errors import InputError, option
from dscm.evaluation import metrics
from dscm.evaluation.features import Embedding
from dscm.evaluation.particles import Query, Reply, Subject, cover
from dscm.evaluation.task import Task
from dscm.oracle import Oracle, observe
from dscm.trust.inspection import Inspector, Watch

PerImage = dict[tuple[str, ...], Tensor]  # by the path of a metric in a record: one number, or one a cycle, per image
Distance = Callable[[Tensor, Tensor], Tensor]
PLAIN = ""  # the query of the composition that is not guided
SAVED = "l1_8bit"  # L1 of images that are saved in 8 bits between two queries


@dataclass(frozen=True)
class Judge:
    """The instruments of measurement: the graph, the oracle, and by name distances between images and embeddings."""

    graph: Graph
    oracle: Oracle | None
    distances: Mapping[str, Distance]
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)

    def compare(self, path: tuple[str, ...], x: Tensor, y: Tensor, prefix: str = "") -> PerImage:
        """Return every distance between two batches under ``path``."""
        return {(*path, prefix + name): distance(x, y) for name, distance in self.distances.items()}

    def read(self, image: Tensor) -> dict[str, Tensor]:
        """Read every attribute off images."""
        return observe(image, self.graph, self.oracle)

    def misread(self, obs: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> PerImage:
        """Return the errors of the oracle, or of measurement, on the observed images themselves."""
        errors = {v.name: metrics.attribute_errors(v, found[v.name], obs[v.name]) for v in self.graph.attributes}
        return {("oracle", name, metric): error for name, e in errors.items() for metric, error in e.items()}

    def judge(
        self,
        path: tuple[str, ...],
        values: Mapping[str, Tensor],
        obs: Mapping[str, Tensor],
        changed: Tensor,
        before: Mapping[str, Tensor],
    ) -> PerImage:
        """Return `metrics.effectiveness` and `metrics.kept` of images under ``path``."""
        observed = self.read(values["image"])
        found = metrics.effectiveness(self.graph, observed, values, obs, changed)
        errors = {(*path, name, metric): error for name, each in found.items() for metric, error in each.items()}
        kept = metrics.kept(self.graph, observed, before, values, obs)
        return errors | {(*path, name, "kept"): share for name, share in kept.items()}

    def compare_cycles(self, path: tuple[str, ...], images: Iterable[Tensor], y: Tensor) -> PerImage:
        """Return every distance of each cycle's images to ``y``, (B, cycles)."""
        cycles = [self.compare(path, x, y) for x in images]
        return {key: torch.stack([cycle[key] for cycle in cycles], dim=1) for key in cycles[0]}


def evaluate_batch(
    subject: Subject, judge: Judge, task: Task, cycles: int, by_target: bool = True, inspector: Inspector | None = None
) -> tuple[PerImage, dict[str, Tensor]]:
    """Compute every metric of one batch.

    Args:
        subject: the model.
        judge: the instruments.
        task: the batch.
        cycles: rounds of composition and of reversal.
        by_target: whether guidance depends on what is intervened on, and so does the composition.
        inspector: checks the answers; None leaves their checks out.

    Returns:
        The metrics, among them ``("seconds",)``, of abduction and one prediction, and ``("unsolved",)``, of the
        inversion, as in `ImageNoise`; and the images, uint8, by label: observation, composition, and each
        counterfactual with its reversal.

    Raises:
        InputError: an image is not finite.
    """
    obs, x = task.obs, task.obs["image"]
    names, covered = list(task.interventions), [name for name in task.truths if subject.particles > 1]
    nulls = {_composition(name): (_null(task, name), None) for name in (names if by_target else names[:1])}
    watch = _watch(inspector, subject, task) if inspector else None
    plain: dict[str, Query] = {PLAIN: ({}, None)} if watch and by_target else {}
    queries = nulls | {name: (do, obs) for name, do in task.interventions.items()} | plain
    reply = subject.ask(obs, queries, covered, watch.see if watch else None)
    before = judge.read(x)
    result: PerImage = {("seconds",): torch.full((len(x),), reply.seconds)} | judge.misread(obs, before)
    result |= {("unsolved",): reply.unsolved} if reply.unsolved.numel() else {}
    images = {"observation": x, "composition": reply.answers[_composition(names[0])]["image"]}
    for name in names:
        if by_target or name == names[0]:
            composed = reply.answers[_composition(name)]["image"]
            chains = _compose_again(subject, judge, task, name, composed, cycles)
        result |= {("composition", name, metric): value for metric, value in chains.items()}
        counterfactual = reply.answers[name]
        result |= judge.judge(("effectiveness", name), counterfactual, obs, task.changed(name), before)
        result |= judge.compare(("identity", name), counterfactual["image"], composed)
        result |= judge.compare(("identity", name), counterfactual["image"], x, "factual_")
        result |= _compare_truth(judge, task, name, counterfactual, before) | _compare_particles(reply, task, name)
        distances, restored = _reverse(subject, judge, task, name, counterfactual, cycles)
        result |= distances
        images |= {f"do({name})": counterfactual["image"], f"do({name}) reversed": restored}
    result |= _check(watch, reply) if watch else {}
    for label, image in images.items():
        if not image.isfinite().all():
            raise InputError(f"{label}: an image is not finite; smaller {option('guidance')} or more steps may help")
    return result, {label: to_levels(image) for label, image in images.items()}


def _watch(inspector: Inspector, subject: Subject, task: Task) -> Watch:
    """Begin to check the answers to every intervention; attributes are those of the data."""
    asked: dict[str, tuple[Collection[str], Effect]] = {}
    for name, do in task.interventions.items():
        asked[name] = do.keys(), "total"
    return inspector.watch(subject.scm, task.obs, task.obs.keys() - {"image"}, asked, subject.particles > 1)


def _check(watch: Watch, reply: Reply) -> PerImage:
    """Return each measure of doubt about the answers, their mean, and whether they have a mark."""
    known = {name: reply.answers.get(_composition(name), {}).get("image") for name in watch.queries}
    composed = {name: image for name, image in known.items() if image is not None}
    usual = reply.answers[PLAIN]["image"] if PLAIN in reply.answers else next(iter(composed.values()))
    result: PerImage = {}
    for name, checks in watch.conclude(usual, reply.answers, composed).items():
        measures = checks.measures | {"doubt": checks.doubt, "marked": checks.doubtful.double()}
        result |= {("trust", name, measure): value for measure, value in measures.items()}
    return result


def _composition(name: str) -> str:
    """Name the query that composes as an intervention is guided."""
    return f"composition {name}"


def _null(task: Task, name: str) -> dict[str, Tensor]:
    """Return the null intervention: what an intervention sets keeps its observed values.

    Without an observation to compare with, guidance emphasises these variables in every image.
    """
    return {variable: task.obs[variable] for variable in task.interventions[name]}


def _compose_again(
    subject: Subject, judge: Judge, task: Task, name: str, first: Tensor, cycles: int
) -> dict[str, Tensor]:
    """Return every distance of each cycle's composition, (B, cycles), and its L1 with images saved between cycles."""
    x, query = task.obs["image"], (_null(task, name), None)

    def compose(obs: Mapping[str, Tensor]) -> Tensor:
        return subject.ask(obs, {name: query}).answers[name]["image"]

    distances = judge.compare_cycles((), metrics.compositions(compose, task.obs, first, cycles), x)
    saved = metrics.compositions(compose, task.obs, first, cycles, metrics.to_8_bits)
    distances[(SAVED,)] = torch.stack([l1(image, x) for image in saved], dim=1)
    return {metric: value for (metric,), value in distances.items()}


def _reverse(
    subject: Subject, judge: Judge, task: Task, name: str, first: Mapping[str, Tensor], cycles: int
) -> tuple[PerImage, Tensor]:
    """Return the distances of each cycle's reversal, (B, cycles), as `_compose_again`, and the first images."""
    obs, x, do = task.obs, task.obs["image"], task.interventions[name]
    floats = list(metrics.reversals(subject.counterfactual, obs, first, do, cycles))
    saved = metrics.reversals(subject.counterfactual, obs, first, do, cycles, metrics.to_8_bits)
    distances = judge.compare_cycles(("reversibility", name), floats, x)
    distances["reversibility", name, SAVED] = torch.stack([l1(image, x) for image in saved], dim=1)
    return distances, floats[0]


def _compare_particles(reply: Reply, task: Task, name: str) -> PerImage:
    """Return the mean spread of the particles, and whether it covers the truth, where that is known."""
    if name not in reply.spread:
        return {}
    result: PerImage = {("particles", name, "spread"): reply.spread[name].flatten(1).mean(dim=1)}
    if name in reply.particles:
        covered = cover(reply.particles[name], to_signed(task.truths[name]))
        result |= {("particles", name, metric): value for metric, value in covered.items()}
    return result


def _compare_truth(
    judge: Judge, task: Task, name: str, counterfactual: Mapping[str, Tensor], before: Mapping[str, Tensor]
) -> PerImage:
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
    shown = {**counterfactual, "image": truth}
    result |= judge.judge(("ceiling", name), shown, task.obs, task.changed(name), before)
    if name in task.places:
        removal = (task.obs[name] == 1) & (task.interventions[name][name] == 0)
        split = metrics.l1_by_place(image, truth, task.places[name], removal)
        result |= {("truth", name, part): error for part, error in split.items()}
    return result
