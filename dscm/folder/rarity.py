"""The answers about values that the training data hardly hold."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from torch import Tensor

from dscm.causal.support import RARE, Support
from dscm.causal.variables import write_number

Rarity = dict[str, Counter[str]]  # by query, the number of rare answers by what is odd in them


def count_rare(
    support: Support | None,
    names: Sequence[str],
    answers: Mapping[str, Mapping[str, Tensor]],
    refused: Mapping[str, Mapping[str, str]],
    done: Container[str] = (),
) -> Rarity:
    """Count the answers of a batch whose counterfactual parents are rare among the training data.

    Args:
        support: what the training data said; None counts nothing.
        names: the names of the images.
        answers: by query, every variable under it, each (B, …).
        refused: by image, the queries that it has no answer to.
        done: the images that were answered earlier, which a batch repeats to be whole; they do not count.
    """
    if support is None:
        return {}
    counts: Rarity = {}
    for query, values in answers.items():
        rare = (support.quantile(values) < RARE).nonzero().flatten().tolist()
        kept = [i for i in rare if names[i] not in done and query not in refused.get(names[i], {})]
        if kept:
            some = {variable.name: values[variable.name][kept] for variable in support.variables}
            counts[query] = Counter(_explain(support, some))
    return counts


def add_up(parts: Sequence[Rarity]) -> Rarity:
    """Add up the counts of batches or processes, queries in the order in which they come."""
    whole: Rarity = {}
    for part in parts:
        for query, odd in part.items():
            whole[query] = whole.get(query, Counter()) + odd
    return whole


def describe_rare(counts: Rarity, images: int) -> list[str]:
    """Say of each query how many answers are about rare values, one line each.

    Args:
        counts: the sum of `count_rare` over batches.
        images: the number of images that were answered.
    """
    share = f"{1 - RARE:.0%}"
    told = f"{{}}: {{}} of {images} answers are about values rarer than {share} of the training data, mostly of {{}}"
    return [told.format(query, odd.total(), odd.most_common(1)[0][0]) for query, odd in counts.items()]


def _explain(support: Support, values: Mapping[str, Tensor]) -> list[str]:
    """Say of each of N values which variable is odd: beyond its range, or given the others."""
    outside, known = support.outside(values), {variable.name: variable for variable in support.variables}
    words = []
    for i, name in enumerate(support.odd(values)):
        beyond = outside[name][i] and known[name].real
        ends = [write_number(float(f"{end:.3g}")) for end in support.range(name)] if beyond else []
        range_ = f"{' to '.join(ends)} {known[name].unit}".rstrip()
        words.append(f"{name}, beyond {range_}" if beyond else f"{name} given the others")
    return words
