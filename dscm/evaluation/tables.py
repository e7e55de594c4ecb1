"""The tables of an evaluation: Markdown to read, and paired differences as CSV."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.causal.variables import Variable
from dscm.evaluation.configuration import Conditions, Configuration
from dscm.evaluation.particles import FLOOR, WIDTH, expected_coverage
from dscm.evaluation.records import IMAGE, Record, Records, lookup
from dscm.evaluation.statistics import CHANGED, bootstrap_interval, is_ratio, summarise

SPLITS = {"test": "test", "valid": "validation"}  # in words
PUBLISHED = (  # in place of the solver's description
    "the procedure of the paper's code (1000 explicit steps of ddim, uniform in t; clean image clamped to [-1, 1] both "
    "ways; the image taken for the first timestep; slants of counterfactuals clamped to ±0.5 rad; L1 on [-1, 1], as "
    "some of its scripts average it, is twice that of these tables)"
)
METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "mae": "MAE",
    "mape": "MAPE",
    "l1": "L1",
    "l1_8bit": "L1, 8 bits",
    "lpips": "LPIPS",
}
Rows = Sequence[tuple[str, Record]]  # the name of each row, and its record


def markdown(records: Records, graph: Graph) -> str:
    """Lay the records of a folder side by side.

    Args:
        records: with the numbers of every image.
        graph: the causal graph.

    Returns:
        Markdown: soundness, cost, effectiveness, each cycle if there are several, and the paired differences of every
        row to the first. L1 is ×10⁻² on [0, 1]; intervals are 95% bootstrap intervals over the images.
    """
    rows = list(zip(records.labels, records.records))
    parts = [_caption(records.conditions), _soundness(rows), _cost(rows)]
    parts += ["Effectiveness on the images whose value changed:", _effectiveness(rows, graph, CHANGED)]
    parts += ["On all images, as the paper has it:", _effectiveness(rows, graph, "")]
    if any(variable.kind == "binary" for variable in graph.attributes):
        parts += ["Binary attributes, added and removed:", _switches(rows, graph)]
    if records.conditions.particles > 1:
        parts += [_describe_particles(records.conditions.particles), _particles(rows)]
    if records.conditions.cycles > 1:
        parts += ["After each cycle:", _cycles(rows, records.conditions.cycles)]
    if groups := find_groups(records.records):
        parts += ["Trainings of one setting, mean ± standard deviation over them [95% interval over the images]:"]
        parts.append(_spread(records, groups, graph))
    if len(rows) > 1:
        parts.append(f"Paired differences to {rows[0][0]} (L1 and LPIPS ×10⁻²):")
        parts.append(_differences(records, rows, graph))
    return "\n\n".join(parts) + "\n"


def _caption(conditions: Conditions) -> str:
    """Say under which conditions the numbers were measured, and what they are."""
    low, high = conditions.guidance_interval
    return (
        f"{conditions.n} {SPLITS[conditions.split]} images, seed {conditions.seed}, "
        f"{conditions.sampler} interventions, {describe_solver(conditions)}, guided at σ from {low:g} to {high:g}, "
        f"{conditions.cycles} cycle(s). L1 ×10⁻² on [0, 1], LPIPS ×10⁻² (AlexNet), with 95% bootstrap intervals over "
        "the images. Composition: guided as the counterfactual is. 8 bits: images saved between two queries. "
        "Identity: counterfactual to composition. Truth: counterfactual to the true one; redrawn: its floor, the "
        "observation as its generator draws it; unchanged: the observation to the true one. Unsolved: how far the "
        "worst implicit step of an inversion still moved a pixel on [-1, 1] (RMS, mean over the images)."
    )


def describe_solver(conditions: Conditions) -> str:
    """Describe the solver of the ODE in a few words."""
    if conditions.published:
        return PUBLISHED
    implicit = f", implicit steps of {conditions.fixed_point} evaluation(s)" if conditions.fixed_point else ""
    low = ", bfloat16" if conditions.precision == "bfloat16" else ""
    grid = f"grid {conditions.grid} to σ = {conditions.sigma_min:g}"
    return f"{conditions.steps} steps of {conditions.solver}{implicit}, {grid}{low}"


def differences(records: Records) -> str:
    """Write, for every pair of rows and every metric, the mean paired difference with its interval, as CSV."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["metric", "row", "minus", "difference", "low", "high"])
    rows = [(label, records.values(record)) for label, record in zip(records.labels, records.records)]
    for (base, theirs), (label, values) in itertools.combinations(rows, 2):
        for metric in sorted(theirs.keys() & values.keys()):
            if not metric.startswith(IMAGE) and metric != "seconds":
                lines.writerow([metric, label, base, *_paired(metric, values[metric], theirs[metric])])
    return file.getvalue()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main_error(variable: Variable) -> str:
    """Name the error that sums up an intervention on a variable; MAPE suits values that stay away from zero."""
    if variable.discrete:
        return "f1" if variable.kind == "binary" else "accuracy"
    return "mape" if variable.kind == "positive" else "mae"


def _soundness(rows: Rows) -> str:
    """Tabulate composition, reversibility, identity and truth under every intervention."""
    columns = {
        "composition": ("composition", "{do}", "l1"),
        "8 bits": ("composition", "{do}", "l1_8bit"),
        "LPIPS": ("composition", "{do}", "lpips"),
        "reversed": ("reversibility", "{do}", "l1"),
        "reversed, 8 bits": ("reversibility", "{do}", "l1_8bit"),
        "identity": ("identity", "{do}", "l1"),
        "identity LPIPS": ("identity", "{do}", "lpips"),
        "truth": ("truth", "{do}", "l1"),
        "redrawn": ("truth", "{do}", "floor_l1"),
        "unchanged": ("truth", "{do}", "factual_l1"),
    }
    lines = []
    for label, record in rows:
        for do in record.metrics["composition"]:
            paths = [tuple(key.format(do=do) for key in path) for path in columns.values()]
            lines.append([label, f"do({do})", *(_cell(record, path, 100, 3) for path in paths)])
    return table(["mechanism", "intervention", *columns], lines)


def _cost(rows: Rows) -> str:
    """Tabulate the exactness of the inversion, the size and training of each model, and the seconds of a query."""
    lines = []
    for label, record in rows:
        parameters, minutes = record.configuration.parameters, record.configuration.training_minutes
        unsolved = record.metrics.get("unsolved")
        lines.append(
            [
                label,
                "–" if unsolved is None else f"{unsolved:.1e}",
                f"{parameters / 1e6:.2f}" if parameters else "–",
                f"{minutes:.0f}" if minutes else "–",
                f"{record.seconds:.3f}",
            ]
        )
    return table(["mechanism", "unsolved", "M parameters", "minutes of training", "s/image"], lines)


def _effectiveness(rows: Rows, graph: Graph, prefix: str) -> str:
    """Tabulate the errors of every attribute under every intervention.

    The first lines are what is possible: the oracle, or measurement, on the observed images and on the true ones.

    Args:
        rows: the rows.
        graph: the causal graph.
        prefix: that of the metrics: `CHANGED`, or none for all images.
    """
    columns = [column for variable in graph.attributes for column in _error_columns(variable)]

    def cells(record: Record, path: tuple[str, ...], prefix: str) -> list[str]:
        return [_cell(record, (*path, a, prefix + m), factor, digits) for _, a, m, factor, digits in columns]

    first = rows[0][1]
    lines = [["oracle", "none", *cells(first, ("oracle",), "")]]
    lines += [
        ["oracle", f"true do({do})", *cells(first, ("ceiling", do), prefix)] for do in first.metrics.get("ceiling", {})
    ]
    for label, record in rows:
        for do in record.metrics["effectiveness"]:
            lines.append([label, f"do({do})", *cells(record, ("effectiveness", do), prefix)])
    return table(["mechanism", "intervention", *(column[0] for column in columns)], lines)


def _error_columns(variable: Variable) -> list[tuple[str, str, str, float, int]]:
    """List the columns of a variable's errors: header, attribute, metric, factor and decimals."""
    name = variable.name
    if variable.kind == "binary":
        return [(f"{name} accuracy %", name, "accuracy", 100, 1), (f"{name} F1 %", name, "f1", 100, 1)]
    if variable.discrete:
        return [(f"{name} accuracy %", name, "accuracy", 100, 1)]
    columns: list[tuple[str, str, str, float, int]] = [(f"{name} MAE {variable.unit}", name, "mae", 1, 3)]
    return columns if variable.kind == "circular" else [*columns, (f"{name} MAPE %", name, "mape", 100, 2)]


def _switches(rows: Rows, graph: Graph) -> str:
    """Tabulate the fractions of successful additions and removals, and the error in their place and elsewhere."""
    lines = []
    binary = {variable.name for variable in graph.attributes if variable.kind == "binary"}
    for label, record in rows:
        for do in filter(binary.__contains__, graph.interventions):
            shares = ("added", "removed", "balanced")
            cells = [_cell(record, ("effectiveness", do, do, share), 100, 1) for share in shares]
            cells += [_cell(record, ("truth", do, part), 100, 3) for part in ("inside_l1", "outside_l1")]
            lines.append([label, f"do({do})", *cells])
    places = ["truth L1 inside its place", "truth L1 outside"]
    return table(["mechanism", "intervention", "added %", "removed %", "mean %", *places], lines)


def _describe_particles(particles: int) -> str:
    """Say what the table of particles shows."""
    return (
        f"Counterfactuals are means over {particles} samples of the code (paper, eq. 15). Spread: the standard "
        "deviation of a pixel, mean over the image. Covered: pixels whose true value lies within "
        f"{WIDTH:g} standard deviations of the mean, of those that vary by more than {FLOOR:g}; a right posterior "
        f"covers {100 * expected_coverage(particles):.1f}%. Rank: particles nearer to the centre than the truth is; 0.5 "
        "if the posterior is right, 1 if it is too narrow."
    )


def _particles(rows: Rows) -> str:
    """Tabulate the spread of the particles, and how often it covers the truth."""
    columns = {"spread": ("spread", 100, 3), "pixels that vary %": ("varied", 100, 1), "covered %": ("covered", 100, 1)}
    columns["rank"] = ("rank", 1, 2)
    lines = [
        [label, f"do({do})", *(_cell(record, ("particles", do, *path[:1]), *path[1:]) for path in columns.values())]
        for label, record in rows
        for do in record.metrics.get("particles", {})
    ]
    return table(["mechanism", "intervention", *columns], lines)


def _cycles(rows: Rows, cycles: int) -> str:
    """Tabulate composition and reversibility after each cycle."""
    lines = []
    for label, record in rows:
        for group, do in itertools.product(("composition", "reversibility"), record.metrics["composition"]):
            for metric, values in record.metrics[group][do].items():
                if values is not None:
                    name = f"{group} do({do}) {METRIC_NAMES.get(metric, metric)}"
                    lines.append([label, name, *(f"{100 * x:.3f}" for x in values)])
    return table(["mechanism", "after cycle", *(str(k + 1) for k in range(cycles))], lines)


def find_groups(records: Sequence[Record]) -> dict[Configuration, list[Record]]:
    """Return, by what they have in common, the records of several trainings of one setting."""
    groups: dict[Configuration, list[Record]] = {}
    for record in records:
        if (setting := record.configuration.setting) is not None:
            groups.setdefault(setting, []).append(record)
    return {setting: members for setting, members in groups.items() if len(members) > 1}


def _spread(records: Records, groups: Mapping[Configuration, Sequence[Record]], graph: Graph) -> str:
    """Tabulate the mean of several trainings, its spread over them, and its interval over the images."""
    metrics = _summary_metrics(graph)
    lines = []
    for setting, members in groups.items():
        values = [records.values(record) for record in members]
        line = [f"{setting.group}: {setting.label([setting])}", str(len(members))]
        for metric, factor in metrics.values():
            line.append(_write_spread(metric, [found[metric] for found in values if metric in found], factor))
        lines.append(line)
    return table(["setting", "trainings", *metrics], lines)


def _write_spread(path: str, trainings: Sequence[Tensor], factor: float) -> str:
    """Write the mean of a metric over trainings, with its spread over them and its interval over the images."""
    if not trainings:
        return "–"
    metric = path.rpartition("/")[2]
    first = [x[:, 0] if x.dim() > 1 and not is_ratio(metric) else x for x in trainings]
    means = factor * torch.stack([summarise(metric, x) for x in first])
    low, high = (factor * bootstrap_interval(metric, torch.stack([x.double() for x in first]).mean(dim=0))).tolist()
    return f"{means.mean().item():.3f} ± {means.std().item():.3f} [{low:.3f}, {high:.3f}]"


def _differences(records: Records, rows: Rows, graph: Graph) -> str:
    """Tabulate each row minus the first one, image by image, for the metrics that sum a mechanism up."""
    metrics = _summary_metrics(graph)
    base = records.values(rows[0][1])
    lines = []
    for label, record in rows[1:]:
        values, line = records.values(record), [label]
        for metric, factor in metrics.values():
            if metric in values and metric in base:
                mean, low, high = (factor * x for x in _paired(metric, values[metric], base[metric]))
                line.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
            else:
                line.append("–")
        lines.append(line)
    return table(["mechanism", *metrics], lines)


def _summary_metrics(graph: Graph) -> Mapping[str, tuple[str, float]]:
    """List the metrics that sum a mechanism up: by title, the path of each and the factor that it is shown with."""
    metrics: dict[str, tuple[str, float]] = {}
    for do in graph.interventions:
        variable = graph.variable(do)
        error = main_error(variable)
        unit, factor = (variable.unit, 1) if error == "mae" else ("%", 100)
        metrics[f"composition do({do})"] = (f"composition/{do}/l1", 100)
        metrics[f"reversibility do({do})"] = (f"reversibility/{do}/l1", 100)
        title = f"{do} {METRIC_NAMES[error]} {unit} under do({do})"
        metrics[title] = (f"effectiveness/{do}/{do}/{CHANGED}{error}", factor)
        metrics[f"identity LPIPS do({do})"] = (f"identity/{do}/lpips", 100)
        metrics[f"truth do({do})"] = (f"truth/{do}/l1", 100)
    return metrics


def _paired(path: str, a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """Return the mean of ``a`` − ``b`` on the same images, and its interval; of the first cycle of several."""
    metric = path.rpartition("/")[2]
    if a.dim() > 1 and not is_ratio(metric):
        a, b = a[:, 0], b[:, 0]
    low, high = bootstrap_interval(metric, a, b).tolist()
    return (summarise(metric, a) - summarise(metric, b)).item(), low, high


def _cell(record: Record, path: tuple[str, ...], factor: float, decimals: int) -> str:
    """Write a number of a record with its interval; of the first cycle, where there are several."""
    value, interval = lookup(record.metrics, path), lookup(record.intervals, path)
    if value is None:
        return "–"
    if isinstance(value, list):
        value, interval = value[0], interval[0]
    low, high = interval
    return f"{factor * value:.{decimals}f} [{factor * low:.{decimals}f}, {factor * high:.{decimals}f}]"
