"""The task of an evaluation: test images, and the interventions on them, the same for every model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.causal.scm import Intervention
from dscm.causal.variables import Variable
from dscm.data.scaling import to_signed
from dscm.data.truth import Truth
from dscm.errors import InputError, option
from dscm.evaluation.bins import group_values

TRIES = 1000  # draws of a value that must differ from the factual one


@dataclass(frozen=True)
class Task:
    """The test images and the interventions on them, the same for every model.

    Args:
        obs: attributes (N,) and the image in [-1, 1], (N, C, H, W).
        interventions: by name, the values (N,) of each variable that is set.
        truths: by intervention, where the true image is known, that image, uint8 (N, C, H, W).
        places: by intervention, where it changes one known region of an image, that region, bool (N, 1, H, W).
        redrawn: where true images are known, the observed one as the generator draws it from its recorded attributes,
            uint8 (N, C, H, W); its distance to the observation is the floor of truth.
    """

    obs: dict[str, Tensor]
    interventions: dict[str, dict[str, Tensor]]
    truths: dict[str, Tensor]
    places: dict[str, Tensor]
    redrawn: Tensor | None = None

    def batch(self, part: slice) -> "Task":
        """Take some of the images."""
        obs, truths, places = (
            {name: value[part] for name, value in x.items()} for x in (self.obs, self.truths, self.places)
        )
        interventions = {name: {k: v[part] for k, v in do.items()} for name, do in self.interventions.items()}
        return Task(obs, interventions, truths, places, None if self.redrawn is None else self.redrawn[part])

    def changed(self, name: str) -> Tensor:
        """Tell which images have another value of a variable under an intervention, bool (N,)."""
        differ = [value != self.obs[variable] for variable, value in self.interventions[name].items()]
        return torch.stack(differ).any(dim=0)


def set_task(
    graph: Graph,
    data: Mapping[str, Tensor],
    sampler: Literal["marginal", "different", "bins"],
    seed: int,
    truth: Truth | None = None,
    learned: LearnedAttributes | None = None,
) -> Task:
    """Draw the interventions on test images, and the true counterfactuals where they are known.

    Args:
        graph: the causal graph.
        data: test images and attributes, as `DataSet.load` returns them.
        sampler: ``marginal`` permutes each attribute's values within the images (the paper's); ``different`` takes
            for each image the value of a random other one whose value differs; ``bins`` draws uniformly from the
            values that occur in another bin (Melistas et al. 2024; `bin_edges`), of digits from the other classes.
            Binary attributes are flipped, and those that are set together get the value of the first; other
            attributes that are set together come from the same image.
        seed: the seed of the draws.
        truth: draws true counterfactuals; None where they are unknown.
        learned: the learned mechanisms of the attributes, where the graph has any.

    Raises:
        InputError: an attribute has too few values for ``different`` or ``bins``.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = {variable.name: variable.kind for variable in graph.attributes}
    obs = {name: data[name] for name in kinds} | {"image": to_signed(data["image"])}
    interventions, truths, places = {}, {}, {}
    for name, together in graph.interventions.items():
        if all(kinds[other] == "binary" for other in together):
            interventions[name] = dict.fromkeys(together, 1 - data[name])
        else:
            donor = _choose_donors(graph.variable(name), data[name], sampler, generator)
            interventions[name] = {other: data[other][donor] for other in together}
    parents = draw_parents(graph, obs, interventions, seed, learned) if truth is not None and truth.known else {}
    for name in interventions:
        if truth is not None and name in truth.known:
            truths[name] = truth.draw(data, parents[name])
        if truth is not None and truth.place is not None and name in truth.local:
            places[name] = truth.place(data, name)
    redrawn = truth.draw(data, {name: obs[name] for name in kinds}) if truth is not None and truths else None
    return Task(obs, interventions, truths, places, redrawn)


def draw_parents(
    graph: Graph,
    obs: Mapping[str, Tensor],
    interventions: Mapping[str, Intervention],
    seed: int,
    learned: LearnedAttributes | None = None,
) -> dict[str, dict[str, Tensor]]:
    """Return the attributes of every counterfactual, (N,), by intervention, as an evaluation asks models for them.

    Args:
        graph, learned: as in `set_task`.
        obs: the observation of N images.
        interventions: by name.
        seed: that of the evaluation. Noise that an observation leaves undetermined, such as that of a class with a
            learned mechanism, is then the same as in the answers, whose image is the last variable to be abducted.
    """
    scm, image = graph.scm(learned=learned), obs["image"]
    noise = scm.abduct(obs, make_streams(seed, range(len(image)), image.device))
    return {name: scm.predict(noise, do) for name, do in interventions.items()}


def _permute(values: Tensor, discrete: bool, generator: torch.Generator) -> Tensor:
    """Permute the images."""
    return torch.randperm(len(values), generator=generator)


def _draw_different(values: Tensor, discrete: bool, generator: torch.Generator) -> Tensor:
    """Draw an image whose value differs."""
    return _draw_unlike(values, torch.arange(len(values)), generator)


def _draw_other_bin(values: Tensor, discrete: bool, generator: torch.Generator) -> Tensor:
    """Draw a value of another class or bin, each of the values that occur with the same probability."""
    first = torch.from_numpy(np.unique(values.numpy(), return_index=True)[1])  # an image of each value
    return _draw_unlike(group_values(values, values, discrete), first, generator)


def _draw_unlike(groups: Tensor, candidates: Tensor, generator: torch.Generator) -> Tensor:
    """Draw for each image one of the candidates that are in another group, with equal probability.

    Args:
        groups: of each image, (N,).
        candidates: numbers of images, (K,).
        generator: source of the draws.

    Raises:
        InputError: too few images are in another group.
    """
    donor = candidates[torch.randint(len(candidates), (len(groups),), generator=generator)]
    for _ in range(TRIES):
        like = groups[donor] == groups
        if not like.any():
            return donor
        donor[like] = candidates[torch.randint(len(candidates), (int(like.sum()),), generator=generator)]
    raise InputError("too few values differ")


SAMPLERS: Mapping[str, Callable[[Tensor, bool, torch.Generator], Tensor]] = {
    "marginal": _permute,
    "different": _draw_different,
    "bins": _draw_other_bin,
}  # each chooses, for values (N,) that are classes or not, the image whose value each image gets, int64 (N,)


def _choose_donors(variable: Variable, values: Tensor, sampler: str, generator: torch.Generator) -> Tensor:
    """Choose, for each image, the one whose value it gets."""
    try:
        return SAMPLERS[sampler](values.cpu(), variable.discrete, generator).to(values.device)
    except InputError:
        raise InputError(
            f"{option('sampler')} {sampler}: too few values of {variable.name} among {len(values)} images differ; "
            f"take more with {option('n')}"
        ) from None
