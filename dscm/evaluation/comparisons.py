"""Comparisons of the rows of an evaluation: paired differences, and the spread over trainings of one setting."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.evaluation.cells import METRIC_NAMES, Rows, main_error, table
from dscm.evaluation.configuration import Configuration
from dscm.evaluation.records import IMAGE, Record, Records
from dscm.evaluation.statistics import CHANGED, bootstrap_interval, is_ratio, summarise


def write_differences(records: Records) -> str:
    """Write, for every pair of rows and every metric, the mean paired difference with its interval, as CSV."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["metric", "row", "minus", "difference", "low", "high"])
    rows = [(label, records.values(record)) for label, record in zip(records.labels, records.records)]
    for (base, theirs), (label, values) in itertools.combinations(rows, 2):
        for metric in sorted(theirs.keys() & values.keys()):
            if not metric.startswith(IMAGE) and metric != "seconds":
                difference, *interval = _paired(metric, values[metric], theirs[metric])
                single = len(values[metric]) == 1  # which all images have together: there is nothing to draw
                lines.writerow([metric, label, base, difference, *(["", ""] if single else interval)])
    return file.getvalue()


def find_groups(records: Sequence[Record]) -> dict[Configuration, list[Record]]:
    """Return, by what they have in common, the records of several trainings of one setting."""
    groups: dict[Configuration, list[Record]] = {}
    for record in records:
        if (setting := record.configuration.setting) is not None:
            groups.setdefault(setting, []).append(record)
    return {setting: members for setting, members in groups.items() if len(members) > 1}


def tabulate_spread(records: Records, groups: Mapping[Configuration, Sequence[Record]], graph: Graph) -> str:
    """Tabulate the mean of several trainings, its spread over them, and its interval over the images."""
    metrics = _summary_metrics(graph)
    lines = []
    for setting, members in groups.items():
        values = [records.values(record) for record in members]
        paths = len({record.configuration.route for record in members})
        along = f" along {paths} paths" if paths > 1 else ""
        line = [f"{setting.group}: {setting.label([setting])}{along}", str(len(members))]
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


def tabulate_differences(records: Records, rows: Rows, graph: Graph) -> str:
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
