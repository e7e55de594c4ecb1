"""A dry run: read a data set as training would, sum it up, time a few steps, and say what is wrong."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.variables import Variable
from dscm.data.sets import DataSet, Split
from dscm.errors import EmptySplit, InputError, option
from dscm.plots.graph import draw_graph
from dscm.training.balance import find_pairs, find_rare, find_weights
from dscm.training.run import Training
from dscm.training.trainer import Trainer

RARE = 0.01  # fraction of the images below which a class is called rare
SCARCE = 0.1  # below which a binary parent is called too rare: of real faces 7% wear glasses, which 13,000 steps of a
# `tiny` model did not learn, and 48% smile, which they did
DEPENDENT = 0.3  # difference of the shares of one class with and without another: of real faces with glasses 78% are of
# men, of the others 39%, and an oracle of them took a fifth of the women with glasses for men
TIMED = 3  # steps that are timed, after one that warms up
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
Splits = Mapping[str, Mapping[str, Tensor]]


def check(training: Training) -> Iterator[str]:
    """Read the data, draw the graph and time a few steps; train and save nothing.

    Args:
        training: the planned training.

    Yields:
        What is there, and what is wrong, one line each.

    Raises:
        InputError: a split cannot be read.
    """
    graph, folder, run = training.graph, training.folder, training.run
    splits, errors = _read_splits(training.data_set, training.recipe.image_size(graph))
    picture = run / "graph.png" if run else folder.with_name(f"{folder.name}-graph.png")
    draw_graph(picture, graph)
    yield from summarise(graph, splits)
    if "valid" not in splits and not errors:
        yield "valid: no images to choose settings on"
    yield f"graph: {picture}"
    if "train" in splits:
        device = training.machine.device
        trainer = training.start(training.select_training(splits["train"]))
        yield _estimate(trainer, training.last_step, device)
        if training.recipe.part == "image":
            drawn = training.hyperparameters.balance, training.hyperparameters.independent
            yield from find_scarce(graph, splits["train"], *drawn)
        if training.recipe.part != "attributes" and not training.recipe.independent:
            yield from find_dependent(graph, splits["train"])
    for fault in find_faults(graph, splits):
        yield f"wrong: {fault}"
    if errors:
        raise InputError("; ".join(errors))


def summarise(graph: Graph, splits: Splits) -> Iterator[str]:
    """Yield one line for each split, and one for each attribute."""
    for name, data in splits.items():
        shape = "×".join(map(str, data["image"].shape[1:]))
        people = f" of {len(data['identity'].unique())} people" if "identity" in data else ""
        yield f"{name}: {len(data['image'])} images of {shape}{people}"
    for variable in graph.attributes:
        parts = [f"{name} {_describe(variable, data[variable.name])}" for name, data in splits.items()]
        yield f"{variable.name} ({variable.kind}): {'; '.join(parts)}"


def find_faults(graph: Graph, splits: Splits) -> Iterator[str]:
    """Yield what a training would suffer from: constant attributes, rare classes, images of one colour."""
    for name, data in splits.items():
        for variable in graph.attributes:
            value = data[variable.name]
            if (value == value[0]).all():
                yield f"{variable.name} is constant in the {name} split: {variable.show(value[0].item())}"
            elif variable.discrete:
                counts = torch.bincount(value, minlength=variable.classes or 2)
                for k in (counts < RARE * len(value)).nonzero()[:, 0].tolist():
                    label = variable.show(k)
                    yield f"{variable.name} is {label} in {counts[k]} of the {len(value)} images of the {name} split"
        pixels = data["image"].flatten(1)
        flat = (pixels == pixels[:, :1]).all(dim=1).sum().item()
        if flat:
            yield f"{flat} images of the {name} split are of one colour"


def find_scarce(
    graph: Graph, data: Mapping[str, Tensor], balance: Sequence[str] = (), independent: Sequence[Sequence[str]] = ()
) -> Iterator[str]:
    """Yield what balancing does, and which binary parents of the image are too rare in what is drawn, below `SCARCE`.

    Args:
        graph: the causal graph.
        data: the training split.
        balance: the attributes whose rare values are drawn more often.
        independent: the interventions whose classes are drawn independent of others.

    Raises:
        InputError: one of the attributes to balance is constant.
    """
    attributes = {name: value for name, value in data.items() if name in {v.name for v in graph.attributes}}
    weights = find_weights(attributes, balance, independent) if balance or independent else None
    for variable in (graph.variable(name) for name in graph.image_parents):
        if variable.kind != "binary":
            continue
        rare, share = find_rare(data[variable.name])
        _, drawn = find_rare(data[variable.name], weights)
        what = f"{variable.name} is {variable.show(rare)} in"
        if variable.name in balance:
            yield f"balance: {what} {drawn:.1%} of the images drawn, of {share:.1%} in the data"
        if 0 < drawn < SCARCE:
            hint = "" if variable.name in balance else f"; {option('balance')}={variable.name} draws them more often"
            yield f"rare: {what} {drawn:.1%} of the images drawn, too few to learn it soon, below {SCARCE:.0%}{hint}"


def find_dependent(graph: Graph, data: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the binary attributes that nearly go with one that an intervention sets, by `DEPENDENT` or more.

    Args:
        graph: the causal graph.
        data: the training split.
    """
    binary = [variable.name for variable in graph.attributes if variable.kind == "binary"]
    for one, other in find_pairs(binary, [*graph.interventions.values()]):
        compared = [(one, other, *_compare(data[one], data[other])), (other, one, *_compare(data[other], data[one]))]
        one, other, without, having = max(compared, key=lambda line: abs(line[3] - line[2]))
        if abs(having - without) >= DEPENDENT:
            shares = f"in {having:.0%} of the images where {one} is 1, in {without:.0%} of the others"
            advice = f"{option('independent')}=on draws them so that neither is read off the other"
            yield f"dependent: {other} is {graph.variable(other).show(1)} {shares}; {advice}"


def _compare(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return the shares of a binary class without another one, and with it."""
    without, having = (other[one == value].double().mean().item() for value in (0, 1))
    return without, having


def _read_splits(data_set: DataSet, size: int) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Read the splits of a data set that can be read; say what is wrong with the others."""
    splits: dict[str, dict[str, Tensor]] = {}
    errors: list[str] = []
    for name in SPLITS:
        try:
            splits[name] = data_set.load(name, size)
        except InputError as error:
            if not (name == "valid" and isinstance(error, EmptySplit)):
                errors.append(error.args[0])
    return splits, list(dict.fromkeys(errors))


def _describe(variable: Variable, value: Tensor) -> str:
    """Sum up an attribute's values, (N,): range, mean and standard deviation, or the share of each class."""
    if variable.discrete:
        shares = torch.bincount(value, minlength=variable.classes or 2) / len(value)
        return ", ".join(f"{variable.show(k)} {share:.1%}" for k, share in enumerate(shares.tolist()))
    low, mean, high = (f"{x.item():.4g}" for x in (value.min(), value.mean(), value.max()))
    return f"{low} to {high}, mean {mean}, sd {value.std(correction=0).item():.3g}"


def _estimate(trainer: Trainer, steps: int | None, device: torch.device) -> str:
    """Time a few steps, and say what all of them will cost."""
    trainer.advance()
    began = time.perf_counter()
    for _ in range(TIMED):
        trainer.advance()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - began) / TIMED
    whole = f", about {steps * seconds / 3600:.1f} hours for {steps} steps" if steps else ""
    return f"training: {seconds:.2f} s a step{whole}; {_memory(device)}"


def _memory(device: torch.device) -> str:
    """Say how much memory was used."""
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device)
    else:
        try:
            import resource
        except ImportError:  # on Windows
            return f"memory on {device} unknown"
        unit = 1 if sys.platform == "darwin" else 1024
        used = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{used / 2**30:.1f} GiB of memory on {device}"
