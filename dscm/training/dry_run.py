"""Read a data set as training would, and say what is there and what is wrong, one line each."""

import resource
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from dscm.data import sets
from dscm.data.sets import Source
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.causal.variables import Variable

RARE = 0.01  # share of the images below which a class is called rare
TIMED = 3  # training steps that are timed, after one that warms up


def read_splits(graph: Graph, source: Source, size: int) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Read every split.

    Returns:
        The splits that can be read, by name, and what is wrong with the others.
    """
    splits, wrong = {}, []
    for name in ("train", "test"):
        try:
            splits[name] = sets.load(graph, source, name, size)
        except InputError as error:
            wrong.append(str(error))
    return splits, list(dict.fromkeys(wrong))


def summarise(graph: Graph, splits: Mapping[str, Mapping[str, Tensor]]) -> Iterator[str]:
    """Yield one line for each split, and one for each attribute."""
    for name, data in splits.items():
        shape = "×".join(map(str, data["image"].shape[1:]))
        yield f"{name}: {len(data['image'])} images of {shape}"
    for variable in graph.attributes:
        parts = [f"{name} {describe(variable, data[variable.name])}" for name, data in splits.items()]
        yield f"{variable.name} ({variable.kind}): {'; '.join(parts)}"


def find_faults(graph: Graph, splits: Mapping[str, Mapping[str, Tensor]]) -> Iterator[str]:
    """Yield what training would suffer from: attributes that are constant, rare classes, repeated images."""
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


def describe(variable: Variable, value: Tensor) -> str:
    """Sum up an attribute's values, (N,): the range and the mean, or the share of each class."""
    if variable.discrete:
        shares = torch.bincount(value, minlength=variable.classes or 2) / len(value)
        return ", ".join(f"{variable.show(k)} {share:.1%}" for k, share in enumerate(shares.tolist()))
    low, mean, high = (f"{x.item():.4g}" for x in (value.min(), value.mean(), value.max()))
    return f"{low} to {high}, mean {mean}, sd {value.std(correction=0).item():.3g}"


def estimate(advance: Callable[[], object], steps: int | None, device: torch.device) -> str:
    """Time a few training steps, and say what all of them will cost.

    Args:
        advance: takes one step.
        steps: how many there will be; None is not known.
        device: where.
    """
    advance()
    began = time.perf_counter()
    for _ in range(TIMED):
        advance()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        used = torch.cuda.max_memory_allocated(device)
    else:
        used = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = (time.perf_counter() - began) / TIMED
    whole = f", about {steps * seconds / 3600:.1f} hours for {steps} steps" if steps else ""
    return f"training: {seconds:.2f} s a step{whole}; {used / 2**30:.1f} GiB of memory on {device}"
