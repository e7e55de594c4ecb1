"""The table ``trust.csv``: how far to trust each answer, and what it says in one line."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.variables import write_number
from dscm.trust.checks import MISSED, MOVED, OFF, UNLIKE, Checks

TRUST = "trust.csv"
HEAD = ("image", "query", "mark", "doubt", "support", "odd", "noise", "noise_odd", "composition", "composition_rank")
TAIL = ("missed", "moved", "identity", "identity_rank", "edges")
BETWEEN = "; "  # marks of one answer, and names within a cell


def list_trust_columns(graph: Graph, particles: int = 1) -> list[str]:
    """List the columns of ``trust.csv``: the checks, and of each parent of the image its error, and its spread."""
    numbers = [name for name in graph.image_parents if not graph.variable(name).discrete]
    spreads = [f"spread_{name}" for name in graph.image_parents] if particles > 1 else []
    return [*HEAD, *TAIL, *(f"error_{name}" for name in numbers), *spreads]


def tabulate_checks(names: Sequence[str], query: str, checks: Checks, columns: Sequence[str]) -> list[list[str]]:
    """Write the row of each image under one query; what is not known is an empty cell.

    Args:
        names: of the images.
        query: its name.
        checks: of these images.
        columns: from `list_trust_columns`.
    """
    origin, marks, doubt = checks.origin, checks.marks, checks.doubt
    numbers = {"doubt": doubt, "support": checks.support, "noise": origin.noise, "identity": checks.identity}
    numbers |= {"composition": origin.composition, "composition_rank": origin.composition_rank}
    numbers |= {"identity_rank": checks.identity_rank, "edges": checks.edges}
    numbers |= {f"error_{name}": value for name, value in checks.errors.items()}
    numbers |= {f"spread_{name}": value for name, value in checks.spread.items()}
    rows = []
    for i, name in enumerate(names):
        row = {"image": name, "query": query, "mark": BETWEEN.join(marks[i]), "odd": checks.odd[i]}
        row |= {"noise_odd": origin.odd[i], "missed": BETWEEN.join(checks.missed[i])}
        row |= {"moved": BETWEEN.join(checks.moved[i])}
        row |= {column: _write(value, i) for column, value in numbers.items()}
        rows.append([row.get(column, "") for column in columns])
    return rows


def read_trust(path: Path) -> list[dict[str, str]]:
    """Read the rows of ``trust.csv``."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [*csv.DictReader(file)]


def is_doubtful(row: dict[str, str]) -> bool:
    """Tell whether something speaks against an answer."""
    return bool(row["mark"])


def summarise(rows: Sequence[dict[str, str]]) -> str:
    """Say in a line how many answers met their target, and what speaks against the others.

    As in ``61 of 64 answers met their target; 2 lie off the support (thickness above 6 px); 1 image is unlike the
    training data``.

    Args:
        rows: of ``trust.csv``.
    """
    marks = [row["mark"].split(BETWEEN) for row in rows]
    met = sum(MISSED not in found for found in marks)
    parts = [f"{met} of {len(rows)} answers met their target"]
    odd = Counter(row["odd"] for row, found in zip(rows, marks) if OFF in found)
    if odd:
        words = ", ".join(reason for reason, _ in odd.most_common(2)) + (", …" if len(odd) > 2 else "")
        parts.append(f"{_count(odd.total(), 'lies', 'lie')} off the support ({words})")
    unlike = {row["image"] for row, found in zip(rows, marks) if UNLIKE in found}
    if unlike:
        parts.append(f"{_count(len(unlike), 'image is', 'images are')} unlike the training data")
    moved = Counter(name for row in rows for name in row["moved"].split(BETWEEN) if name)
    if moved:
        n = sum(MOVED in found for found in marks)
        parts.append(f"{_count(n, 'has', 'have')} side effects (mostly on {moved.most_common(1)[0][0]})")
    return "; ".join(parts)


def _write(value: Tensor | None, i: int) -> str:
    """Write a number with four digits; nothing where it is not known."""
    return "" if value is None else write_number(float(f"{value[i].item():.4g}"))


def _count(n: int, one: str, several: str) -> str:
    """Write a number with the words that follow it."""
    return f"{n} {one if n == 1 else several}"
