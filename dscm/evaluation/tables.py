"""Records of measurements as tables to read."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dscm.causal.graph import Graph
from dscm.evaluation.records import Results, lookup
from dscm.evaluation.statistics import RATIOS, bootstrap_interval, summarise
from dscm.causal.variables import Variable

METRIC_NAMES = {"accuracy": "accuracy", "f1": "F1", "mae": "MAE", "mape": "MAPE"}
Record = Mapping[str, Any]
Metric = tuple[str, float, int]  # path of a metric, the factor it is shown with, decimals


def markdown(results: Results, graph: Graph) -> str:
    """Lay the records of a folder side by side.

    Args:
        results: the records and the numbers of every image.
        graph: the causal graph.

    Returns:
        Markdown: soundness, effectiveness, each cycle if there are several, and the paired differences of every
        row to the first. L1 is ×10⁻² on [0, 1]; intervals are 95% bootstrap intervals over the images.
    """
    records = results.records
    first = records[0]
    about = (
        f"{first['n']} test images, seed {first['seed']}, {first['sampler']} interventions, "
        f"{describe_solver(first)}, guided at σ from "
        f"{first['guidance_interval'][0]:g} to {first['guidance_interval'][1]:g}, {first['cycles']} cycle(s). "
        "L1 ×10⁻² on [0, 1], LPIPS ×10⁻² (AlexNet), with 95% bootstrap intervals over the images. Unsolved: how far "
        "the worst implicit step of an inversion still moved a pixel on [-1, 1] (RMS, mean over the images)."
    )
    parts = [about, _soundness(records, graph), _identity(records, graph), _effectiveness(records, graph)]
    if any(variable.kind == "binary" for variable in graph.attributes):
        parts.append(_removal(records, graph))
    if first["cycles"] > 1:
        parts.append(_cycles(records, graph))
    if len(records) > 1:
        parts += [
            f"Paired differences to {name_row(first, records)} (L1 and LPIPS ×10⁻²):",
            _differences(results, graph),
        ]
    return "\n\n".join(parts) + "\n"


def describe_solver(record: Record) -> str:
    """Say in a few words how the ODE was solved."""
    implicit = f", implicit steps of {record['fixed_point']} evaluation(s)" if record["fixed_point"] else ""
    low = ", bfloat16" if record["precision"] == "bfloat16" else ""
    grid = f"grid {record['grid']} to σ = {record['sigma_min']:g}"
    return f"{record['steps']} steps of {record['solver']}{implicit}, {grid}{low}"


def name_row(record: Record, records: Sequence[Record]) -> str:
    """Name a record in a few words: mechanism, abduction, ω, and the checkpoint where there are several of a kind."""
    words = [record["mechanism"]]
    alike = [r for r in records if r["mechanism"] == record["mechanism"]]
    for symbol, entry in (("p∅", "p_null"), ("β", "beta")):
        if len({r[entry] for r in alike}) > 1:
            words.append(f"{symbol}={record[entry]:g}")
            alike = [r for r in alike if r[entry] == record[entry]]
    if len({r["checkpoint_sha256"] for r in alike}) > 1:
        path = Path(record["checkpoint"])
        words.append(f"({path.parent.name}/{path.stem} {record['checkpoint_sha256'][:4]})")
    if record["abduction"] != record["mechanism"]:
        words.append(record["abduction"].removeprefix(f"{record['mechanism']} "))
    if record["cta_lr"] is not None:
        words.append(f"η={record['cta_lr']:g}")
        if (record["cta_steps"], record["cta_optimizer"]) != (1, "sgd"):
            words.append(f"{record['cta_steps']}×{record['cta_optimizer']}")
    if record["guidance"] is not None:
        words.append(f"ω: {record['weights']}" if record["weights"] else f"ω={record['guidance']:g}")
    return " ".join(words)


def name_file(label: str, about: Record) -> str:
    """Name the file of a record's numbers."""
    words = [label, about["checkpoint_sha256"][:8], about["abduction"]]
    if about["guidance"] is not None:
        words.append(f"w{about['weights'] or format(about['guidance'], 'g')}")
    if about["cta_lr"] is not None:
        words.append(f"eta{about['cta_lr']:g}x{about['cta_steps']}{about['cta_optimizer']}")
    return "_".join(words)


def differences(results: Results) -> str:
    """Write, for every pair of rows and every metric, the mean paired difference with its interval, as CSV."""
    records = results.records
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["metric", "row", "minus", "difference", "low", "high"])
    values = [results.values(record) for record in records]
    for i, j in itertools.combinations(range(len(records)), 2):
        for metric in sorted(values[i].keys() & values[j].keys()):
            if not metric.startswith("image/") and metric != "seconds":
                mean, low, high = (f"{x:.6g}" for x in _paired(metric, values[j][metric], values[i][metric]))
                table.writerow([metric, name_row(records[j], records), name_row(records[i], records), mean, low, high])
    return file.getvalue()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def own_metric(variable: Variable) -> str:
    """Name the error that counts under an intervention on a variable; MAPE is for what stays away from zero."""
    if variable.discrete:
        return "f1" if variable.kind == "binary" else "accuracy"
    return "mape" if variable.kind == "positive" else "mae"


def _soundness(records: Sequence[Record], graph: Graph) -> str:
    """Tabulate composition, reversibility, truth and cost."""
    doings = list(graph.interventions)
    true = [name for name in doings if name in records[0].get("truth", {})]
    header = ["mechanism", "composition", *(f"reversibility do({name})" for name in doings)]
    header += [f"truth do({name}) (factual)" for name in true]
    header += ["unsolved", "M parameters", "minutes of training", "s/image"]
    rows = []
    for record in records:
        row = [name_row(record, records), _cell(record, ("composition", "l1"), 100, 3)]
        row += [_cell(record, ("reversibility", name, "l1"), 100, 3) for name in doings]
        for name in true:
            factual = 100 * record["truth"][name]["factual_l1"]
            row.append(f"{_cell(record, ('truth', name, 'l1'), 100, 3)} ({factual:.3f})")
        unsolved = record.get("unsolved")
        rows.append([*row, "–" if unsolved is None else f"{unsolved:.1e}", *_cost(record)])
    return table(header, rows)


def _cost(record: Record) -> list[str]:
    """Write millions of parameters, minutes of training, and seconds of an abduction and a prediction."""
    parameters, minutes = record.get("parameters"), record.get("training_minutes")
    return [
        f"{parameters / 1e6:.2f}" if parameters else "–",
        f"{minutes:.0f}" if minutes else "–",
        f"{record['seconds_per_image']:.3f}",
    ]


def _identity(records: Sequence[Record], graph: Graph) -> str:
    """Tabulate LPIPS of the composition, and LPIPS and L1 between the composition and each counterfactual."""
    header = ["mechanism", "composition LPIPS"]
    header += [f"identity do({name}) LPIPS, L1" for name in graph.interventions]
    rows = []
    for record in records:
        row = [name_row(record, records), _cell(record, ("composition", "lpips"), 100, 3)]
        for name in graph.interventions:
            row.append(", ".join(_cell(record, ("identity", name, kind), 100, 2) for kind in ("lpips", "l1")))
        rows.append(row)
    return table(header, rows)


def _effectiveness(records: Sequence[Record], graph: Graph) -> str:
    """Tabulate the errors of every attribute under every intervention."""
    columns: list[tuple[str, str, str, float, int]] = []  # header, attribute, metric, factor, decimals
    for variable in graph.attributes:
        if variable.discrete:
            columns.append((f"{variable.name} accuracy %", variable.name, "accuracy", 100, 1))
            if variable.kind == "binary":
                columns.append((f"{variable.name} F1 %", variable.name, "f1", 100, 1))
            continue
        columns.append((f"{variable.name} MAE {variable.unit}", variable.name, "mae", 1, 3))
        if own_metric(variable) == "mape":
            columns.append((f"{variable.name} MAPE %", variable.name, "mape", 100, 2))
    rows = []
    for record in records:
        for do in record["effectiveness"]:
            cells = [_cell(record, ("effectiveness", do, a, m), factor, digits) for _, a, m, factor, digits in columns]
            rows.append([name_row(record, records), f"do({do})", *cells])
    return table(["mechanism", "intervention", *(column[0] for column in columns)], rows)


def _removal(records: Sequence[Record], graph: Graph) -> str:
    """Tabulate how often a binary attribute that was taken away is gone, and the error in its place and elsewhere."""
    rows = []
    binary = {variable.name for variable in graph.attributes if variable.kind == "binary"}
    for record in records:
        for do in filter(binary.__contains__, graph.interventions):
            cells = [_cell(record, ("effectiveness", do, do, "removed"), 100, 1)]
            cells += [_cell(record, ("truth", do, part), 100, 3) for part in ("inside_l1", "outside_l1")]
            rows.append([name_row(record, records), f"do({do})", *cells])
    header = ["mechanism", "intervention", "removed %", "truth L1 inside its place", "truth L1 outside"]
    return table(header, rows)


def _cycles(records: Sequence[Record], graph: Graph) -> str:
    """Tabulate composition and reversibility after each cycle."""
    header = ["mechanism", "after cycle", *(str(k + 1) for k in range(records[0]["cycles"]))]
    rows = []
    for record in records:
        paths = {}
        for kind in ("l1", "lpips"):
            paths[f"composition {kind.upper()}"] = ("composition", kind)
            paths |= {
                f"reversibility do({do}) {kind.upper()}": ("reversibility", do, kind) for do in graph.interventions
            }
        paths = {label: path for label, path in paths.items() if lookup(record, path) is not None}
        for label, path in paths.items():
            rows.append([name_row(record, records), label, *(f"{100 * x:.3f}" for x in lookup(record, path))])
    return table(header, rows)


def _differences(results: Results, graph: Graph) -> str:
    """Tabulate each row minus the first one, image by image, for the metrics that sum a mechanism up."""
    records = results.records
    variables = {variable.name: variable for variable in graph.attributes}
    metrics = {"composition L1": ("composition/l1", 100)}
    for do in graph.interventions:
        own = own_metric(variables[do])
        metrics[f"reversibility do({do})"] = (f"reversibility/{do}/l1", 100)
        unit = variables[do].unit if own == "mae" else "%"
        label = f"{do} {METRIC_NAMES[own]} {unit} under do({do})"
        metrics[label] = (f"effectiveness/{do}/{do}/{own}", 1 if own == "mae" else 100)
        metrics[f"identity LPIPS do({do})"] = (f"identity/{do}/lpips", 100)
    base = results.values(records[0])
    rows = []
    for record in records[1:]:
        values, row = results.values(record), [name_row(record, records)]
        for metric, factor in metrics.values():
            if metric in values and metric in base:
                mean, low, high = (factor * x for x in _paired(metric, values[metric], base[metric]))
                row.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
            else:
                row.append("–")
        rows.append(row)
    return table(["mechanism", *metrics], rows)


def _paired(path: str, a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """Return how much ``a`` is above ``b`` on the same images, and its interval; of the first cycle of several."""
    metric = path.rpartition("/")[2]
    if a.dim() > 1 and metric not in RATIOS:
        a, b = a[:, 0], b[:, 0]
    low, high = bootstrap_interval(metric, a, b).tolist()
    return (summarise(metric, a) - summarise(metric, b)).item(), low, high


def _cell(record: Record, path: tuple[str, ...], factor: float, decimals: int) -> str:
    """Write a number of a record with its interval; of the first cycle, where there are several."""
    value, interval = lookup(record, path), lookup(record["intervals"], path)
    if value is None:
        return "–"
    if isinstance(value, list):
        value, interval = value[0], interval[0]
    low, high = interval
    return f"{factor * value:.{decimals}f} [{factor * low:.{decimals}f}, {factor * high:.{decimals}f}]"
