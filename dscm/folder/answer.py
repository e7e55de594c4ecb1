"""The answer to one query from Python: the counterfactual values, which plot and save themselves."""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.mechanisms import Noise
from dscm.causal.particles import abduct_particles, average
from dscm.causal.scm import SCM, Effect, Intervention, Soft
from dscm.causal.values import Do, Values, read_observation, read_values, soften
from dscm.causal.variables import write_number
from dscm.data.scaling import to_levels, to_signed
from dscm.data.sets import get_data_set
from dscm.errors import InputError, option
from dscm.folder.ledger import Ledger
from dscm.folder.names import Layout
from dscm.folder.queries import SOFT, parse_query
from dscm.folder.reader import Batch
from dscm.folder.trust import TRUST, list_trust_columns
from dscm.folder.writer import SPREAD, TABLE, Writer, describe_particles, label, list_columns
from dscm.oracle import Oracle
from dscm.plots.sheets import Row, effect_map, make_sheet, spread_map
from dscm.runs import check_output
from dscm.settings import check_integer, check_mapping
from dscm.trust.checks import Checks
from dscm.trust.inspection import Inspector

ANSWER, COMPOSITION = "answer", "composition"
SHOWN = 12  # images of a plot
TITLE = "Effect: red is brighter than the composition, blue darker."


@dataclass(frozen=True, eq=False, repr=False)
class Answer(Mapping[str, Tensor]):
    """What images would have been under an intervention.

    As a mapping it holds the counterfactual value of every variable, (N,), in raw units, and ``image``, uint8
    (N, C, H, W); of several particles, the mean of theirs.

    Args:
        graph: the causal graph.
        oracle: predicts the attributes that are not measured.
        names: the names of the images.
        query: the intervention as text.
        observed: the observation; attributes (N,), and the image in [-1, 1], (N, C, H, W).
        composed: the images under the null intervention, in [-1, 1], (N, C, H, W).
        predicted: every variable under the intervention, the image in [-1, 1].
        sources: where the observed attributes come from: the attributes by source.
        particles: M, how many were averaged.
        spread: of several particles, the standard deviation of each pixel on [0, 1], (N, C, H, W).
        trust: the checks of the answers: how far to trust each of them.
    """

    graph: Graph
    oracle: Oracle | None
    names: list[str]
    query: str
    observed: Mapping[str, Tensor]
    composed: Tensor
    predicted: Mapping[str, Tensor]
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    particles: int = 1
    spread: Tensor | None = None
    trust: Checks | None = None

    @property
    def obs(self) -> dict[str, Tensor]:
        """Return the observation, the image as uint8."""
        return {**self.observed, "image": to_levels(self.observed["image"])}

    @property
    def composition(self) -> Tensor:
        """Return the images under the null intervention, uint8."""
        return to_levels(self.composed)

    def __repr__(self) -> str:
        """Name the query and count the images."""
        return f"<Answer do({self.query}) about {len(self.names)} images: {', '.join(self.predicted)}>"

    def _repr_png_(self) -> bytes:
        """Draw the answer in a notebook."""
        file = io.BytesIO()
        self.plot().save(file, "PNG")
        return file.getvalue()

    def __getitem__(self, name: str) -> Tensor:
        """Return a variable's counterfactual values."""
        value = self.predicted[name]
        return to_levels(value) if name == "image" else value

    def __iter__(self) -> Iterator[str]:
        """Iterate over the variables."""
        return iter(self.predicted)

    def __len__(self) -> int:
        """Count the variables."""
        return len(self.predicted)

    @property
    def _title(self) -> str:
        """Return the title of the contact sheet."""
        return TITLE if self.particles == 1 else describe_particles(self.particles)

    def plot(self) -> Image.Image:
        """Draw the first images: observed, composed, counterfactual, and what the intervention changed."""
        some = slice(0, SHOWN)
        answer, composed = self.predicted["image"][some], self.composed[some]
        marks = [found[0] if found else "" for found in self.trust.marks[some]] if self.trust else []
        rows = [
            Row("observation", to_levels(self.observed["image"][some])),
            Row("composition", to_levels(composed)),
            Row(label(self.query), to_levels(answer), marks=marks),
            Row("effect", effect_map(answer, composed), attached=True),
        ]
        if self.spread is not None:
            rows.append(Row(SPREAD, spread_map(self.spread[some]), attached=True))
        return make_sheet(rows, self._title)

    def save(self, out: Path | str, overwrite: bool = False) -> None:
        """Write the files that ``counterfactual.py`` writes: a PNG for each image, a table, and a contact sheet.

        Args:
            out: the folder.
            overwrite: write into a folder that has content.

        Raises:
            InputError: the folder has content.
        """
        check_output(Path(out), overwrite)
        paths = [Path(name) for name in self.names]
        command = {"do": [self.query], "images": self.names}
        keys = dict.fromkeys(self.names, "")
        columns = list_columns(self.graph, self.particles)
        beside = {TRUST: list_trust_columns(self.graph, self.particles)} if self.trust else {}
        ledger = Ledger(Path(out), TABLE, columns, command, keys, overwrite=True, beside=beside)
        layout = Layout(Path(out), paths, [self.query])
        spreads = {} if self.spread is None else {self.query: self.spread}
        with Writer(ledger, layout, get_data_set(self.graph), self.oracle, self._title) as writer:
            batch = Batch(paths, dict(self.observed))
            checks = {self.query: self.trust} if self.trust else {}
            writer.add(0, batch, self.composed, {self.query: self.predicted}, spreads=spreads, checks=checks)


def answer(
    scm: SCM,
    obs: Mapping[str, Tensor],
    do: Intervention,
    effect: Effect,
    names: Sequence[str],
    batch: int,
    seed: int,
    particles: int,
    inspector: Inspector,
    given: Collection[str],
) -> tuple[Tensor, dict[str, Tensor], Tensor | None, Checks]:
    """Answer one query about many images, a batch at a time.

    Args:
        scm: the causal model.
        obs: the observation, each (N, …), the image in [-1, 1].
        do: the intervention, each () or (N,), or soft.
        effect: the paths along which it acts.
        names: the names of the images, to which that noise belongs.
        batch: images at a time.
        seed: the seed of noise that an observation leaves undetermined.
        particles: M, as in `average`.
        inspector, given: as in `Inspector.watch`, to check the answers.

    Returns:
        The composition, (N, C, H, W); every variable under the intervention; of several particles, the standard
        deviation of each pixel on [0, 1]; and the checks.
    """
    check_integer("batch", batch, 1)
    parts = []
    for start in range(0, len(obs["image"]), batch):
        chosen = slice(start, start + batch)
        part = {name: value[chosen] for name, value in obs.items()}
        some = take(do, chosen)
        watch = inspector.watch(scm, part, given, {ANSWER: (do.keys(), effect)}, particles > 1)

        def ask(noise: Mapping[str, Noise]) -> dict[str, dict[str, Tensor]]:
            along = scm.along(part, noise, some, effect, "image")
            found = dict(zip((COMPOSITION, ANSWER), scm.predict_each(noise, [{}, along], part, batch)))
            watch.see(noise, found)
            return found

        source = make_streams(seed, names[chosen], part["image"].device)
        values, spread = average(abduct_particles(scm, part, particles, source), ask)
        checks = watch.conclude(composition := values[COMPOSITION]["image"], values)[ANSWER]
        parts.append((composition, values[ANSWER], spread.get(ANSWER), checks))
    compositions, answers, spreads, found = zip(*parts)
    joined = {name: torch.cat([values[name] for values in answers]) for name in answers[0]}
    return torch.cat(compositions), joined, torch.cat(spreads) if particles > 1 else None, Checks.join(found)


def take(do: Intervention, chosen: slice) -> Intervention:
    """Take the intervention on some elements of a batch; a value without a batch, or a function, is for all."""
    return {k: value[chosen] if isinstance(value, Tensor) and value.dim() else value for k, value in do.items()}


def read_signed(
    graph: Graph, shape: tuple[int, int, int], obs: Mapping[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """Read an observation from Python onto a device, its image brought to [-1, 1].

    Args:
        graph: the causal graph.
        shape: the shape of an image, (C, H, W).
        obs: attributes (B,) in raw units, and ``image`` uint8, (B, C, H, W).
        device: the device.

    Raises:
        InputError: the image has another shape or dtype, or as `read_observation`.
    """
    check_mapping("obs", obs, "a dict of tensors by name, as observe returns it")
    image = obs.get("image")
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.shape[1:] != shape:
        size = ", ".join(map(str, shape))
        raise InputError(f"observation: 'image' must be uint8 of shape (B, {size}), as observe returns it")
    attributes = {name: value for name, value in obs.items() if name != "image"}
    placed = {**read_observation(graph, attributes, len(image)), "image": to_signed(image)}
    return {name: value.to(device) for name, value in placed.items()}


def read_intervention(
    graph: Graph,
    do: Do,
    device: torch.device,
    obs: Mapping[str, Tensor] | None = None,
    names: Sequence[str] = (),
) -> dict[str, Tensor | Soft]:
    """Read the values of an intervention onto a device.

    Args:
        graph: the causal graph.
        do: values by name: numbers in raw units, labels of classes, functions of the value that the mechanism gives, or
            the same as text: ``soft:+1``, ``soft:*0.8`` or ``soft:flip``; with an observation also changes of that:
            ``+1``, ``*0.8`` or ``flip``.
        device: the device.
        obs: the observation, attributes (N,).
        names: the names of the images.

    Returns:
        Values by name, each () or (N,), and functions.

    Raises:
        InputError: a variable is unknown, or a value outside its domain.
    """
    check_mapping("do", do, f"a dict of values by name, as in {{'{graph.attributes[0].name}': VALUE}}")
    result: dict[str, Tensor | Soft] = {}
    for name, value in do.items():
        variable = graph.variable(name)
        is_query = isinstance(value, str) and value not in variable.labels
        if callable(value):
            result[name] = soften(variable, value)
        elif is_query and (obs is not None or str(value).startswith(SOFT)):
            images = [*names] or [""] * len(obs["image"] if obs else ())
            changed, refused = parse_query(f"{name}={value}", graph).resolve(obs or {}, images)
            for image, reason in refused.items():
                raise InputError(f"{option('do')} {name}={value}: {reason} (image {image})")
            result |= changed
        else:
            result[name] = read_values(variable, value, len(obs["image"]) if obs else None)
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in result.items()}


def write_query(do: Do, effect: Effect) -> str:
    """Write an intervention as text, for captions and names of files."""
    words = [f"{name}={_write(value)}" for name, value in do.items()]
    return ",".join(words) + ("" if effect == "total" else f"__{effect}")


def _write(value: Values | Soft) -> str:
    """Write the value of a variable: a number, a label, ``each`` for one of every image, or ``soft`` for a function."""
    if isinstance(value, str):
        return value
    if callable(value):
        return "soft"
    return write_number(float(value)) if np.ndim(value) == 0 else "each"  # type: ignore[arg-type]
