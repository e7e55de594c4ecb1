"""Guidance weights and intervals compared under one intervention, and the choice among them.

Abduction is unguided, so all settings share one. Of a rare attribute few images could tell which share is removed, so
half of the images have it, where there are as many.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dscm.causal.draws import Streams, make_streams
from dscm.causal.graph import Graph
from dscm.causal.mechanisms import Noise
from dscm.causal.variables import Variable
from dscm.data.scaling import l1
from dscm.diffusion.guidance import DO, Interval, Intervals, Weights
from dscm.errors import InputError
from dscm.evaluation import metrics
from dscm.evaluation.cells import table
from dscm.evaluation.particles import Subject
from dscm.evaluation.protocol import Judge
from dscm.evaluation.statistics import CHANGED, summarise
from dscm.evaluation.task import Task
from dscm.machine import USUAL
from dscm.model import Model
from dscm.oracle import observe
from dscm.trust.reference import VISIBLE

MARGIN = 0.02  # of effectiveness, within which settings count as equally effective
EFFECT, COMPOSITION, KEPT = "effect", "composition", "kept "
COLUMNS = {  # of a table: title, and the factor and the decimals that a score is shown with
    "added": ("added %", 100, 1),
    "removed": ("removed %", 100, 1),
    CHANGED + "accuracy": ("accuracy %", 100, 1),
    CHANGED + "mae": ("error, SD", 1, 3),
    COMPOSITION: ("composition", 100, 2),
    "l1": ("identity", 100, 2),
    "lpips": ("identity LPIPS", 100, 2),
    "reversed": ("reversed, 8 bits", 100, 2),
}
Scores = dict[str, float]  # means over images, by a key of `COLUMNS`, `EFFECT`, or `KEPT` and an attribute


class Choice(NamedTuple):
    """What is compared: ω of what is intervened on, where all else has 1, and the noise levels at which it has it."""

    weight: float
    interval: Interval

    @property
    def settings(self) -> dict[str, Weights | Interval]:
        """Return the settings of a mechanism."""
        return {"guidance": Weights(1.0, ((DO, self.weight),)), "guidance_interval": self.interval}


@dataclass(frozen=True)
class Sweep:
    """A diffusion model, and the images and the intervention that its guidance is measured with.

    Args:
        model: the model, whose abduction is unguided.
        judge: the instruments.
        task: the images, and the interventions on them.
        name: the intervention.
        spread: the standard deviation of every real attribute, in raw units.
        seed: of noise that an observation leaves undetermined.
        batch: images at a time.
    """

    model: Model
    judge: Judge
    task: Task
    name: str
    spread: Mapping[str, float]
    seed: int = 0
    batch: int = USUAL

    @property
    def starts(self) -> range:
        """Return the first image of every batch."""
        return range(0, len(self.task.obs["image"]), self.batch)

    @torch.no_grad()
    def run(self, choices: Sequence[Choice], advance: Callable[[], object] = lambda: None) -> dict[Choice, Scores]:
        """Measure every setting on the same images, all with one abduction.

        Args:
            choices: the settings.
            advance: is called after every batch of every setting.

        Returns:
            Of each setting: what its effectiveness is made of, and `EFFECT`, a share or, of a number, 1 − its error in
            standard deviations; the share of images in which each attribute that the intervention does not reach is
            read as before, a number within `VISIBLE` standard deviations; L1 of the composition, guided likewise, to
            the image; distances of the counterfactual to the composition; and L1 of the reversal through 8 bits.
        """
        parts = [self.task.batch(slice(start, start + self.batch)) for start in self.starts]
        noises = [self.model.scm.abduct(part.obs, self._source(i, part)) for i, part in zip(self.starts, parts)]
        result = {}
        for choice in choices:
            scm, found = self.model.using(**choice.settings).scm, []
            for start, part, noise in zip(self.starts, parts, noises):
                found.append(self._measure(Subject(scm, source=self._source(start, part)), part, noise))
                advance()
            joined = {metric: torch.cat([values[metric] for values in found]).cpu() for metric in found[0]}
            result[choice] = self._score({metric: summarise(metric, x).item() for metric, x in joined.items()})
        return result

    def _source(self, start: int, part: Task) -> Streams:
        """Return the source of draws of a batch, the same for every setting."""
        return make_streams(self.seed, range(start, start + len(part.obs["image"])), self.model.device)

    def _measure(self, subject: Subject, task: Task, noise: Mapping[str, Noise]) -> dict[str, Tensor]:
        """Measure one batch of one setting."""
        obs, do, x, scm = task.obs, task.interventions[self.name], task.obs["image"], subject.scm
        graph, oracle = self.judge.graph, self.judge.oracle
        composed = scm.predict(noise, {variable: obs[variable] for variable in do})["image"]
        answer = scm.predict(noise, do, obs)
        others = [v for v in graph.attributes if v.name not in do.keys() | scm.descendants(do)]
        before = observe(x, graph, oracle, [v.name for v in others])
        observed = self.judge.read(answer["image"])
        found = metrics.effectiveness(graph, observed, {**answer, **before}, obs, task.changed(self.name))
        result = {metric: value for metric, value in found[self.name].items() if metric in COLUMNS}
        for v in others:
            error = 1 - found[v.name]["accuracy"] if v.discrete else found[v.name]["mae"]
            result[KEPT + v.name] = (error <= VISIBLE * self.spread.get(v.name, 0)).double()
        result |= {metric: value for (metric,), value in self.judge.compare((), answer["image"], composed).items()}
        (back,) = metrics.reversals(subject.counterfactual, obs, answer, do, 1, metrics.to_8_bits)
        return result | {COMPOSITION: l1(composed, x), "reversed": l1(back, x)}

    def _score(self, means: Scores) -> Scores:
        """Add the effectiveness, and give an error in standard deviations."""
        if CHANGED + "mae" in means:
            means[CHANGED + "mae"] /= self.spread[self.name]
            return means | {EFFECT: 1 - means[CHANGED + "mae"]}
        if "added" not in means:
            return means | {EFFECT: means[CHANGED + "accuracy"]}
        del means[CHANGED + "accuracy"]
        return means | {EFFECT: torch.tensor([means["added"], means["removed"]]).nanmean().item()}


def pick(variable: Variable, values: Tensor, n: int) -> Tensor:
    """Choose images to intervene on: the first ones, of a binary variable as far as possible half with each value.

    Args:
        variable: the variable.
        values: of all images, (N,).
        n: images, at most.

    Returns:
        Their numbers, ascending.
    """
    if variable.kind != "binary":
        return torch.arange(min(n, len(values)))
    without, having = ((values == value).nonzero().flatten() for value in (0, 1))
    having = having[: max(n // 2, n - len(without))]
    return torch.cat([without[: n - len(having)], having]).sort().values


def choose(scores: Mapping[Choice, Scores], target: float = math.inf) -> Choice:
    """Choose the setting of the least composition among those that are effective enough.

    These are the ones within `MARGIN` of the most effective one, and those that reach a target.

    Args:
        scores: of every setting, from `Sweep.run`.
        target: of `EFFECT`; by default there is none.

    Raises:
        InputError: no setting gives images that are finite.
    """
    finite = {choice: found for choice, found in scores.items() if math.isfinite(found[EFFECT] + found[COMPOSITION])}
    if not finite:
        raise InputError("no setting gives images that are finite; smaller weights may help")
    least = min(max(found[EFFECT] for found in finite.values()) - MARGIN, target)
    return min((c for c, found in finite.items() if found[EFFECT] >= least), key=lambda c: finite[c][COMPOSITION])


def combine(chosen: Mapping[str, Choice], graph: Graph) -> dict[str, str | Interval]:
    """Join the choices of all interventions into settings of one mechanism, as plain data.

    What none of them was made for takes the most frequent one. A variable that several interventions set takes that of
    its own.

    Args:
        chosen: by intervention.
        graph: the causal graph.

    >>> from dscm.graphs import get_graph
    >>> smile, glasses = Choice(3, (0.3, 20)), Choice(4, (2, 40))
    >>> combine({"Smiling": smile, "Eyeglasses": glasses}, get_graph("celebahq"))
    {'guidance': 'do=3,do.Eyeglasses=4,others=1', 'guidance_interval': 'Eyeglasses=2:40,others=0.3:20'}
    """
    usual = Counter(chosen.values()).most_common(1)[0][0]
    of = {variable: choice for name, choice in chosen.items() for variable in graph.interventions[name]} | dict(chosen)
    weights = [(f"{DO}.{name}", c.weight) for name, c in of.items() if c.weight != usual.weight]
    intervals = [(name, c.interval) for name, c in of.items() if c.interval != usual.interval]
    guidance = Weights(1.0, ((DO, usual.weight), *weights))
    return {"guidance": str(guidance), "guidance_interval": Intervals(usual.interval, tuple(intervals)).plain}


def tabulate(scores: Mapping[Choice, Scores], chosen: Choice) -> str:
    """Tabulate every setting in Markdown, with a mark at the chosen one."""
    first = next(iter(scores.values()))
    columns = {key: column for key, column in COLUMNS.items() if key in first}
    effects = [key for key in columns if key in ("added", "removed") or key.startswith(CHANGED)]
    rest = [key for key in columns if key not in effects]
    sides = ["others kept %", "least kept %"] * any(key.startswith(KEPT) for key in first)
    both = ["mean %"] * ("added" in first)
    header = ["ω", "σ", *(columns[key][0] for key in effects), *both, *sides, *(columns[key][0] for key in rest), ""]
    lines = []
    for choice, found in scores.items():
        cells = {key: f"{factor * found[key]:.{decimals}f}" for key, (_, factor, decimals) in columns.items()}
        kept = {key.removeprefix(KEPT): share for key, share in found.items() if key.startswith(KEPT)}
        worst = min(kept, key=lambda name: kept[name], default="")
        kept_cells = [f"{100 * sum(kept.values()) / len(kept):.1f}", f"{100 * kept[worst]:.1f} {worst}"] if kept else []
        mean = [f"{100 * found[EFFECT]:.1f}"] * len(both)
        low, high = choice.interval
        line = [f"{choice.weight:g}", f"{low:g} to {high:g}", *(cells[key] for key in effects), *mean, *kept_cells]
        lines.append([*line, *(cells[key] for key in rest), "←" if choice == chosen else ""])
    return table(header, lines)
