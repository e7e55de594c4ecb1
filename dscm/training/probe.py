"""Scores of a trained part on held-out images: KL and probes of a code, likelihoods, the accuracy of an oracle."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.graph import Graph
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.learned import LearnedAttributes
from dscm.causal.variables import Variable
from dscm.data.scaling import to_signed
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.oracle import Oracle
from dscm.training.code_probe import CHUNK, in_chunks, name_readings, probe


@torch.no_grad()
def score(model: nn.Module, graph: Graph, data: Mapping[str, Tensor]) -> dict[str, float]:
    """Score a trained part of a causal model on the test split.

    Args:
        model: the part.
        graph: the causal graph.
        data: the test split, images uint8.

    Returns:
        Of an oracle, accuracy and F1; of attributes, their negative log-likelihoods; of a semantic mechanism, the KL
        and the probes of its code; of a baseline, the terms of its objective.
    """
    if isinstance(model, LearnedAttributes):
        return {name: term.item() for name, term in model(data["image"], data).items()}
    if isinstance(model, Oracle):
        return score_oracle(model, data)
    if not isinstance(model, DiffusionMechanism):
        return score_likelihood(model, data) if isinstance(model, ImageMechanism) else {}
    if not model.code_dim:
        return {}
    pa = model.scaling({variable.name: data[variable.name] for variable in model.scaling.variables})
    kl = partial(model.kl, generator=torch.Generator(pa.device).manual_seed(0))
    return {"KL (nats)": in_chunks(kl, data["image"], pa).mean().item()} | name_readings(probe(model, data))


@torch.no_grad()
def score_likelihood(model: ImageMechanism[Any], data: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the terms of a baseline's objective on the test split, KL and reconstruction in nats among them."""
    generator = torch.Generator(data["image"].device).manual_seed(0)
    beta = {} if model.kind in ("diffscm", "vci") else {"beta": 1.0}
    totals: dict[str, float] = {}
    for part in torch.arange(len(data["image"])).split(CHUNK):
        parents = {name: value[part] for name, value in data.items()}
        for name, term in model(to_signed(data["image"][part]), parents, generator=generator, **beta).items():
            totals[name] = totals.get(name, 0.0) + term.item() * len(part) / len(data["image"])
    return totals


@torch.no_grad()
def score_oracle(oracle: Oracle, data: Mapping[str, Tensor]) -> dict[str, float]:
    """Return an oracle's test scores: accuracy of each class, and F1 if it is binary and occurs; R² of numbers.

    Args:
        oracle: the predictor.
        data: ``image`` uint8 (N, C, H, W), and attributes (N,); variables that it lacks are left out.
    """
    parts = [oracle.predict(to_signed(x)) for x in data["image"].split(CHUNK)]
    result = {}
    for variable in (variable for variable in oracle.variables if variable.name in data):
        prediction, target = torch.cat([part[variable.name] for part in parts]), data[variable.name]
        result[f"test {main_score(variable)} {variable.name}"] = (
            r_squared(prediction, target) if variable.real else (prediction == target).float().mean().item()
        )
        if variable.kind == "binary" and (prediction | target).any():
            result[f"test F1 {variable.name}"] = f1(prediction, target)
    return result


def main_score(variable: Variable) -> str:
    """Name the score of an oracle's prediction of a variable."""
    return "R²" if variable.real else "accuracy"


def f1(prediction: Tensor, target: Tensor) -> float:
    """Compute ``F1 = 2·TP / (2·TP + FP + FN)`` of binary predictions, (N,), one of which at least is 1 or should be."""
    prediction, target = prediction.double(), target.double()
    return ((2 * prediction * target).mean() / (prediction + target).mean()).item()


def r_squared(prediction: Tensor, truth: Tensor) -> float:
    """Compute R², the share of the variance of ``truth`` (N, …) that the prediction explains; NaN if it has none."""
    prediction, truth = prediction.double(), truth.double()
    variance = ((truth - truth.mean()) ** 2).sum().item() if len(truth) else 0.0
    return 1 - ((prediction - truth) ** 2).sum().item() / variance if variance else math.nan
