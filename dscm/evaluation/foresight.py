"""How well a measure of doubt foretells the error of an answer, and tells foreign images from usual ones."""

from collections.abc import Mapping

import torch
from torch import Tensor

SHARE = 0.1  # of the answers: the worst ones, and those that raise an alarm
ALL = "all interventions"
LEAST = 20  # answers, of which a share of a tenth is more than one
Paths = dict[tuple[str, ...], Tensor]


def foretell(values: Mapping[tuple[str, ...], Tensor]) -> Paths:
    """Compare every measure of doubt with the error against the true counterfactual, where that is known.

    Args:
        values: the metrics of every image: ``("trust", intervention, measure)`` and ``("truth", intervention, "l1")``.

    Returns:
        For each intervention, and for `ALL` of them together, and each measure ``("foresight", intervention, measure +
        "_correlation")``, as `correlate_ranks`, and ``"_caught"``, as `catch_worst`; each (1,). A mark has no order:
        of it ``"marked_worst"`` and ``"marked_rest"``, the shares of the worst answers and of the others that have one.
    """
    names = [path[1] for path in values if path[0] == "truth" and path[2] == "l1"]
    errors = {name: values["truth", name, "l1"] for name in names}
    found: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for _, name, measure in (key for key in values if key[0] == "trust" and key[1] in found):
        found[name][measure] = values["trust", name, measure]
    if len(names) > 1 and all(found[name].keys() == found[names[0]].keys() for name in names):
        found[ALL] = {m: torch.cat([found[name][m].cpu() for name in names]) for m in found[names[0]]}
        errors[ALL] = torch.cat([error.cpu() for error in errors.values()])
    result: Paths = {}
    for name, measures in found.items():
        for measure, doubt in measures.items() if len(errors[name]) >= LEAST else ():
            judge = split_marked if measure == "marked" else _judge
            foretold = judge(doubt, errors[name])
            result |= {("foresight", name, f"{measure}_{kind}"): torch.tensor([x]) for kind, x in foretold.items()}
    return result


def _judge(doubt: Tensor, error: Tensor) -> dict[str, float]:
    """Compare a measure that orders answers with their errors."""
    return {"correlation": correlate_ranks(doubt, error), "caught": catch_worst(doubt, error)}


def rank(x: Tensor) -> Tensor:
    """Rank numbers (N,) from 1, ties by their mean rank; float64."""
    ordered, inverse, counts = x.double().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def correlate_ranks(x: Tensor, y: Tensor) -> float:
    """Return the rank correlation of two measures, (N,); NaN where one is constant.

    Source: Spearman 1904, The proof and measurement of association between two things.

    >>> correlate_ranks(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.2, 0.3]))
    1.0
    """
    return torch.corrcoef(torch.stack([rank(x), rank(y)]))[0, 1].item()


def catch_worst(doubt: Tensor, error: Tensor, share: float = SHARE) -> float:
    """Return the part of the worst answers that is among the most doubtful ones; by chance it is ``share``.

    Args:
        doubt, error: of each answer, (N,); high is bad. Of equal doubts at the edge each counts in part.
        share: of the answers that are called worst, and of those that are most doubtful.
    """
    n = max(1, round(share * len(error)))
    worst = error.double().argsort(descending=True, stable=True)[:n]
    edge = doubt.double().sort(descending=True).values[n - 1]
    above, ties = doubt > edge, doubt == edge
    weight = above.double() + ties.double() * (n - above.sum()) / ties.sum()
    return weight[worst].mean().item()


def split_marked(marked: Tensor, error: Tensor, share: float = SHARE) -> dict[str, float]:
    """Return the share of the ``worst`` answers that are marked, and of the ``rest``: 1 − misses, and false alarms.

    Args:
        marked: of each answer 1 or 0, (N,).
        error: of each answer, (N,); high is bad.
        share: of the answers that are called worst.
    """
    order, n = error.argsort(descending=True, stable=True), max(1, round(share * len(error)))
    parts = {"worst": order[:n], "rest": order[n:]}
    return {name: marked[part].double().mean().item() for name, part in parts.items()}


def area_under_curve(usual: Tensor, foreign: Tensor) -> float:
    """Return the probability that a foreign image has the larger measure, a tie counting half.

    It is the area under the curve of detections against false alarms.

    Source: Hanley and McNeil 1982, The meaning and use of the area under a receiver operating characteristic curve.

    Args:
        usual, foreign: the measure of either, (N,) and (M,).
    """
    ranks = rank(torch.cat([usual, foreign]))[len(usual) :]
    m = len(foreign)
    return ((ranks.sum() - m * (m + 1) / 2) / (m * len(usual))).item()
