"""The task of an evaluation: test images, and the interventions on them, the same for every model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.data.scaling import to_signed
from dscm.data.truth import Truth
from dscm.errors import InputError, option

TRIES = 1000  # draws of a value that must differ from the factual one


@dataclass(frozen=True)
class Task:
    """The test images and the interventions on them, the same for every model.

    Args:
        obs: attributes (N,) and the image in [-1, 1], (N, C, H, W).
        interventions: by name, the values (N,) of each variable that is set.
        truths: by intervention, where the true image is known, that image, uint8 (N, C, H, W).
        places: by intervention, where it changes one known region of an image, that region, bool (N, 1, H, W).
    """

    obs: dict[str, Tensor]
    interventions: dict[str, dict[str, Tensor]]
    truths: dict[str, Tensor]
    places: dict[str, Tensor]

    def batch(self, part: slice) -> "Task":
        """Take some of the images."""
        obs, truths, places = (
            {name: value[part] for name, value in x.items()} for x in (self.obs, self.truths, self.places)
        )
        interventions = {name: {k: v[part] for k, v in do.items()} for name, do in self.interventions.items()}
        return Task(obs, interventions, truths, places)


def set_task(
    graph: Graph,
    data: Mapping[str, Tensor],
    sampler: Literal["marginal", "different"],
    seed: int,
    truth: Truth | None = None,
    learned: LearnedAttributes | None = None,
) -> Task:
    """Draw the interventions on test images, and the true counterfactuals where they are known.

    Args:
        graph: the causal graph.
        data: test images and attributes, as `DataSet.load` returns them.
        sampler: ``marginal`` permutes each attribute's values within the images (the paper's); ``different`` takes
            for each image the value of a random other one whose value differs. Binary attributes are flipped, and
            those that are set together get the value of the first; other attributes that are set together come from
            the same image.
        seed: the seed of the draws.
        truth: draws true counterfactuals; None where they are unknown.
        learned: the learned mechanisms of the attributes, where the graph has any.

    Raises:
        InputError: an attribute has too few values for ``different``.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = {variable.name: variable.kind for variable in graph.attributes}
    obs = {name: data[name] for name in kinds} | {"image": to_signed(data["image"])}
    interventions, truths, places = {}, {}, {}
    for name, together in graph.interventions.items():
        if all(kinds[other] == "binary" for other in together):
            interventions[name] = dict.fromkeys(together, 1 - data[name])
        else:
            donor = _choose_donors(name, data[name], sampler, generator)
            interventions[name] = {other: data[other][donor] for other in together}
    scm = graph.scm(learned=learned)
    for name, do in interventions.items():
        if truth is not None and name in truth.known:
            truths[name] = truth.draw(data, scm.counterfactual(obs, do))
        if truth is not None and truth.place is not None and name in truth.local:
            places[name] = truth.place(data, name)
    return Task(obs, interventions, truths, places)


def _choose_donors(name: str, values: Tensor, sampler: str, generator: torch.Generator) -> Tensor:
    """Choose, for each image, another one, whose value it gets."""
    n = len(values)
    if sampler == "marginal":
        return torch.randperm(n, generator=generator).to(values.device)
    donor = torch.randint(n, (n,), generator=generator).to(values.device)
    for _ in range(TRIES):
        same = values[donor] == values
        if not same.any():
            return donor
        donor[same] = torch.randint(n, (int(same.sum()),), generator=generator).to(values.device)
    raise InputError(
        f"{option('sampler')} different: too few values of {name} among {n} images differ; take more with {option('n')}"
    )
