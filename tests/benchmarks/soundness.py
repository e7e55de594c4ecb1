"""One procedure measured: seconds and evaluations of a counterfactual, and whether it is sound."""

from collections.abc import Mapping
from typing import Any

import torch
from subjects import Subject
from timing import clock
from torch import Tensor, nn

from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Mechanism
from dscm.causal.scm import SCM
from dscm.data.scaling import l1, to_signed
from dscm.diffusion.published import limit
from dscm.evaluation.metrics import to_8_bits
from dscm.oracle import observe

BATCH = 64
Numbers = Mapping[str, Tensor]  # one per image, (N,); NaN where nothing is asked


class Counter:
    """Count the images that pass through a network; a guided step passes each twice."""

    def __init__(self, network: nn.Module) -> None:
        self.images = 0
        self.handle = network.register_forward_hook(self.count)

    def count(self, network: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the images of one pass."""
        self.images += len(output)


@torch.no_grad()
def measure(subject: Subject, mechanism: Mechanism[Any], network: nn.Module, n: int, batch: int = BATCH) -> Numbers:
    """Measure a mechanism on the first n images.

    Seconds and evaluations are those of one abduction and the prediction of the first intervention. Composition is
    guided as the counterfactual is, in every image. A counterfactual is saved in 8 bits before it is reversed.

    Args:
        subject: the images, and what judges the answers.
        mechanism: answers.
        network: its noise predictor.
        n: number of images.
        batch: images at a time.

    Returns:
        By column of the table. Effectiveness is of the images in which an intervention changes something: the relative
        error of a measured attribute, or whether a class is the one that was asked for, in percent.
    """
    graph = limit(subject.graph, mechanism.sampling) if isinstance(mechanism, ImageMechanism) else subject.graph
    scm, counter = graph.scm(mechanism, subject.learned), Counter(network)
    parts = [measure_batch(subject, scm, counter, slice(i, min(i + batch, n))) for i in range(0, n, batch)]
    counter.handle.remove()
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def measure_batch(subject: Subject, scm: SCM, counter: Counter, chosen: slice) -> Numbers:
    """Measure one batch."""
    task, first = subject.task.batch(chosen), subject.asked[0]
    obs, x = task.obs, task.obs["image"]
    began, before = clock(x), counter.images
    noise = scm.abduct(obs)
    answers = {first: scm.predict(noise, task.interventions[first], obs)}
    spent, passed = clock(answers[first]["image"]) - began, counter.images - before
    values = {"s an image": x.new_full((len(x),), spent / len(x))}
    values["evaluations"] = x.new_full((len(x),), passed / len(x))
    null = {name: obs[name] for name in task.interventions[first]}
    values["composition ×10⁻²"] = 100 * l1(scm.predict(noise, null)["image"], x)
    reversals, truths, effects = {}, {}, {}
    for name in subject.asked:
        do = task.interventions[name]
        answer = answers.get(name) or scm.predict(noise, do, obs)
        saved = {**answer, "image": to_8_bits(answer["image"])}
        back = scm.counterfactual(saved, {variable: obs[variable] for variable in do})["image"]
        reversals[f"reversed do({name}), 8 bits ×10⁻²"] = 100 * l1(back, x)
        if name in task.truths:
            truths[f"truth do({name}) ×10⁻²"] = 100 * l1(answer["image"], to_signed(task.truths[name]))
        got, variable = (
            observe(answer["image"], subject.graph, subject.oracle, [name])[name],
            subject.graph.variable(name),
        )
        effect = (got == answer[name]).float() if variable.discrete else (got / answer[name] - 1).abs()
        label = f"do({name}) obeyed %" if variable.discrete else f"do({name}) MAPE %"
        effects[label] = (100 * effect).where(task.changed(name), torch.nan)
    return values | reversals | truths | effects


def average(numbers: Numbers, n: int) -> dict[str, float]:
    """Average over the first n images."""
    return {name: value[:n].nanmean().item() for name, value in numbers.items()}
