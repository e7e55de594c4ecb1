"""How a trained part does on held-out images: what a code says of the parents, how often an oracle is right."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.data.scaling import to_signed
from dscm.causal.graph import Graph
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.causal.image_mechanism import ImageMechanism
from dscm.oracle import Oracle
from dscm.evaluation.statistics import f1_terms, summarise
from dscm.causal.variables import Variable

CHUNK = 500  # images at a time


@torch.no_grad()
def judge(model: nn.Module, part: str, graph: Graph, data: dict[str, Tensor]) -> dict[str, float]:
    """Judge the trained model on the test split, a few hundred images at a time.

    Args:
        model: the average.
        part: which part of the causal model it is.
        graph: the causal graph.
        data: the test split, images uint8.

    Returns:
        Of an oracle accuracy and F1, of attributes their negative log-likelihoods, of a semantic mechanism the
        code's KL and linear probe.
    """
    if part == "attributes":
        return {name: term.item() for name, term in model(data["image"], data).items()}
    if part == "oracle":
        return score_oracle(model, data)
    if not isinstance(model, DiffusionMechanism):
        return score_likelihood(model, data)
    if not model.code_dim:
        return {}
    parents = {name: data[name] for name in graph.image_parents}
    code, kl = encode_all(model, data["image"], model.scaling(parents))
    names = {v.name: f"probe {v.name} {'accuracy' if v.discrete else 'R²'}" for v in graph.attributes}
    scores = probe_code(code, model.scaling.variables, parents)
    return {"KL (nats)": kl.mean().item()} | {names[name]: score for name, score in scores.items()}


@torch.no_grad()
def score_likelihood(model: ImageMechanism, data: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the terms of a baseline's objective on the test split, KL and reconstruction in nats among them."""
    generator = torch.Generator(data["image"].device).manual_seed(0)
    beta = {} if model.kind == "diffscm" else {"beta": 1.0}
    totals: dict[str, float] = {}
    for part in torch.arange(len(data["image"])).split(CHUNK):
        parents = {name: value[part] for name, value in data.items()}
        for name, term in model(to_signed(data["image"][part]), parents, generator=generator, **beta).items():
            totals[name] = totals.get(name, 0.0) + term.item() * len(part) / len(data["image"])
    return totals


@torch.no_grad()
def encode_all(mechanism: DiffusionMechanism, images: Tensor, pa: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes, (N, code_dim), and KL terms, (N,), of uint8 images (N, C, H, W) with encoded parents (N, D)."""
    parts = [
        (mechanism.encode(x, p), mechanism.kl(x, p))
        for x, p in zip(map(to_signed, images.split(CHUNK)), pa.split(CHUNK))
    ]
    codes, terms = zip(*parts)
    return torch.cat(codes), torch.cat(terms)


@torch.no_grad()
def probe_code(code: Tensor, variables: Sequence[Variable], parents: Mapping[str, Tensor]) -> dict[str, float]:
    """Fit a linear regression from the code to each parent on half of the images and score it on the other half.

    Args:
        code: shape (N, code_dim).
        variables: the parents.
        parents: each (N,).

    Returns:
        For each parent R² (continuous), or the accuracy of the highest of the one-hot regressions (categorical or
        binary). Chance is 0, respectively the share of the most frequent class.
    """
    code = torch.cat([code.double(), torch.ones(len(code), 1, dtype=torch.double, device=code.device)], dim=1)
    fit, score = slice(None, None, 2), slice(1, None, 2)
    result = {}
    for variable in variables:
        target = parents[variable.name]
        classes = 2 if variable.kind == "binary" else variable.classes
        wide = F.one_hot(target, classes).double() if classes else target.double()[:, None]
        weights = torch.linalg.lstsq(code[fit], wide[fit]).solution
        guess, truth = code[score] @ weights, wide[score]
        if classes:
            result[variable.name] = (guess.argmax(dim=1) == target[score]).double().mean().item()
        else:
            result[variable.name] = explained(guess, truth)
    return result


@torch.no_grad()
def score_oracle(oracle: Oracle, data: Mapping[str, Tensor]) -> dict[str, float]:
    """Return an oracle's test scores: of each class accuracy, and F1 if it is binary and occurs; of numbers R².

    Args:
        oracle: the trained predictor.
        data: ``image`` uint8 (N, C, H, W), and the attributes (N,); what else the oracle predicts is left out.
    """
    parts = [oracle.predict(to_signed(x)) for x in data["image"].split(CHUNK)]
    result = {}
    for variable in (variable for variable in oracle.variables if variable.name in data):
        guess, wanted = torch.cat([part[variable.name] for part in parts]), data[variable.name]
        result[f"test {main_score(variable)} {variable.name}"] = (
            explained(guess, wanted) if variable.real else (guess == wanted).float().mean().item()
        )
        if variable.kind == "binary" and (guess | wanted).any():
            result[f"test F1 {variable.name}"] = summarise("f1", f1_terms(guess, wanted)).item()
    return result


def main_score(variable: Variable) -> str:
    """Name what an oracle's prediction of a variable is judged by."""
    return "R²" if variable.real else "accuracy"


def explained(guess: Tensor, truth: Tensor) -> float:
    """Compute R², the share of the variance of ``truth`` (N, …) that ``guess`` explains."""
    guess, truth = guess.double(), truth.double()
    return 1 - ((guess - truth) ** 2).sum().item() / ((truth - truth.mean()) ** 2).sum().item()
