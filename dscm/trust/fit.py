"""Measure what answers are compared with, on validation images."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.learned import LearnedAttributes
from dscm.causal.mechanisms import Noise
from dscm.causal.scm import SCM
from dscm.data.scaling import l1, to_signed
from dscm.data.sets import Split
from dscm.oracle import Oracle, observe
from dscm.trust.reference import Reference, describe_settings, make_gauges
from dscm.trust.typicality import Typicality, describe

CHUNK = 64  # images at a time


def refer(
    graph: Graph,
    model: nn.Module,
    splits: Mapping[Split, Mapping[str, Tensor]],
    n: int,
    seed: int = 0,
    learned: LearnedAttributes | None = None,
) -> Reference | None:
    """Measure what a trained part does on validation images.

    Args:
        graph: the causal graph.
        model: a mechanism of the image, or an oracle; other parts have no reference.
        splits: by name, images uint8, (N, C, H, W), and attributes, (N,): those for validation, or else for testing.
        n: how many of them are taken, at most; none where it is 0.
        seed, learned: as in `fit_reference`.
    """
    split: Split = "valid" if "valid" in splits else "test"
    some = {name: value[:n] for name, value in splits[split].items()}
    count = len(some["image"])
    if count and isinstance(model, ImageMechanism):
        return fit_reference(graph, model, some, split, seed, learned)
    if count and isinstance(model, Oracle):
        return Reference(errors=read_errors(graph, some, model), n=count, split=split)
    return None


@torch.no_grad()
def fit_reference(
    graph: Graph,
    mechanism: ImageMechanism[Any],
    data: Mapping[str, Tensor],
    split: str,
    seed: int = 0,
    learned: LearnedAttributes | None = None,
) -> Reference:
    """Measure what a mechanism of an image makes of validation images, at its own settings.

    Interventions are those of an evaluation, with the values of another image. Where attributes have learned mechanisms
    that are not given, there are none.

    Args:
        graph: the causal graph.
        mechanism: the mechanism.
        data: images uint8, (n, C, H, W), and attributes, (n,).
        split: whose they are.
        seed: of the permutations, and of noise that an observation leaves undetermined.
        learned: the learned mechanisms of the attributes.
    """
    whole = not graph.learned or learned is not None
    scm = graph.scm(mechanism, learned).to(data["image"].device) if whole else None
    donors = torch.randperm(len(data["image"]), generator=torch.Generator().manual_seed(seed)).to(data["image"].device)
    found: dict[str, list[Tensor]] = {}
    for part in tqdm(torch.arange(len(donors), device=donors.device).split(CHUNK), desc="what is usual", unit="batch"):
        obs = {variable.name: data[variable.name][part] for variable in graph.attributes}
        obs["image"] = to_signed(data["image"][part])
        given = {variable.name: data[variable.name][donors[part]] for variable in graph.attributes}
        source = make_streams(seed, part.tolist(), donors.device)
        if scm:
            numbers = _ask(scm, graph, obs, given, source)
        else:
            parents = {name: obs[name] for name in graph.image_parents}
            noise = mechanism.abduct(obs["image"], parents)
            numbers = _describe(noise, obs["image"], mechanism.predict(noise, parents))
        for name, value in numbers:
            found.setdefault(name, []).append(value.cpu())
    joined = {name: torch.cat(values) for name, values in found.items()}
    described = {name.removeprefix("is "): value for name, value in joined.items() if name.startswith("is ")}
    typicality = Typicality.fit(described)
    identity = {name.removeprefix("do "): _sort(x) for name, x in joined.items() if name.startswith("do ")}
    errors = read_errors(graph, data)
    words = describe_settings(mechanism.sampling)
    return Reference(*words, typicality, _sort(joined["composition"]), identity, errors, len(donors), split)


@torch.no_grad()
def read_errors(graph: Graph, data: Mapping[str, Tensor], oracle: Oracle | None = None) -> dict[str, Tensor]:
    """Compare what is read off images with what is recorded, as `Reference.errors` holds it.

    Args:
        graph: the causal graph.
        data: images uint8, (n, C, H, W), and attributes, (n,).
        oracle: reads the attributes that are predicted; None reads those that are measured.
    """
    read = [v for v in graph.attributes if (v in graph.predicted) == (oracle is not None)]
    if not read:
        return {}
    names = [variable.name for variable in read]
    parts = [observe(to_signed(x), graph, oracle, names) for x in data["image"].split(CHUNK)]
    gauges = make_gauges(read, [Reference(errors={name: torch.zeros(1) for name in names})], None)
    readings = {name: torch.cat([part[name] for part in parts]) for name in names}
    return {name: _sort(gauges[name].difference(readings[name], data[name]).cpu()) for name in names}


def _ask(
    scm: SCM, graph: Graph, obs: Mapping[str, Tensor], given: Mapping[str, Tensor], source: Any
) -> Iterator[tuple[str, Tensor]]:
    """Yield the numbers of one batch, with those of every intervention."""
    noise = scm.abduct(obs, source)
    composition = scm.predict(noise)["image"]
    yield from _describe(noise["image"], obs["image"], composition)
    for names in graph.interventions.values():
        counterfactual = scm.predict(noise, {name: given[name] for name in names}, obs)["image"]
        yield f"do {','.join(sorted(names))}", l1(counterfactual, composition)


def _describe(noise: Noise, x: Tensor, composition: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield what images and their noise are like, and their composition, of one batch."""
    for name, value in describe(noise, x).items():
        yield f"is {name}", value
    yield "composition", l1(composition, x)


def _sort(x: Tensor) -> Tensor:
    """Sort a sample; what is not a number comes last, as the largest that float32 holds."""
    return x.float().nan_to_num(nan=torch.inf).clamp(max=torch.finfo(torch.float32).max).sort().values
