"""Records of measurements as tables to read."""

from collections.abc import Mapping, Sequence
from typing import Any

from dscm.graphs import Graph


def markdown(records: Sequence[Mapping[str, Any]], graph: Graph) -> str:
    """Lay records side by side: soundness in one table, effectiveness in another.

    Args:
        records: as `evaluate.py` writes them.
        graph: the causal graph.

    Returns:
        Markdown. L1 is ×10⁻² on [0, 1].
    """
    first = records[0]
    about = (
        f"{first['n']} test digits, seed {first['seed']}, {first['sampler']} interventions, {first['steps']} steps, "
        f"grid {first['grid']}, fixed point {first['fixed_point']}, {first['cycles']} cycle(s). L1 ×10⁻² on [0, 1]."
    )
    return "\n\n".join([about, _soundness(records, graph), _effectiveness(records, graph)]) + "\n"


def _soundness(records: Sequence[Mapping[str, Any]], graph: Graph) -> str:
    """Tabulate composition, reversibility, truth and time."""
    doings = graph.image_parents
    true = [name for name in doings if name in first_truth(records)]
    header = ["mechanism", "ω", "composition", *(f"reversibility do({name})" for name in doings)]
    header += [f"truth do({name}) (factual)" for name in true] + ["s/image"]
    rows = []
    for record in records:
        row = [record["mechanism"], f"{record['guidance']:g}", _l1(record["composition"]["l1"][-1])]
        row += [_l1(record["reversibility"][name]["l1"][-1]) for name in doings]
        truth = record.get("truth", {})
        row += [f"{_l1(truth[name]['l1'])} ({_l1(truth[name]['factual_l1'])})" for name in true]
        rows.append(row + [f"{record['seconds_per_image']:.3f}"])
    return table(header, rows)


def _effectiveness(records: Sequence[Mapping[str, Any]], graph: Graph) -> str:
    """Tabulate the errors of every attribute under every intervention."""
    names = [(v.name, "accuracy" if v.classes else "mae") for v in graph.attributes]
    header = ["mechanism", "ω", "intervention"]
    for variable in graph.attributes:
        header += ["digit accuracy %"] if variable.classes else [f"{variable.name} MAE {variable.unit}"]
        header += [f"{variable.name} MAPE %"] if variable.kind == "continuous" and variable.name != "slant" else []
    rows = []
    for record in records:
        for do, errors in record["effectiveness"].items():
            row = [record["mechanism"], f"{record['guidance']:g}", f"do({do})"]
            for name, metric in names:
                row.append(
                    f"{100 * errors[name][metric]:.1f}" if metric == "accuracy" else f"{errors[name][metric]:.3f}"
                )
                if "mape" in errors[name] and name != "slant":
                    row.append(f"{100 * errors[name]['mape']:.2f}")
            rows.append(row)
    return table(header, rows)


def first_truth(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the interventions whose true image is known."""
    return records[0].get("truth", {})


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _l1(value: float) -> str:
    """Write an L1 in hundredths."""
    return f"{100 * value:.3f}"
