"""The tables of an evaluation, in Markdown to read."""

import itertools

from dscm.causal.graph import Graph
from dscm.causal.support import RARE
from dscm.causal.variables import Variable
from dscm.evaluation.cells import METRIC_NAMES, Rows, cell, main_error, table
from dscm.evaluation.comparisons import find_groups, tabulate_differences, tabulate_spread
from dscm.evaluation.particles import FLOOR, WIDTH, expected_coverage
from dscm.evaluation.records import Record, Records
from dscm.evaluation.resemblance import OBSERVED
from dscm.evaluation.route import describe, find_intervals, find_paths
from dscm.evaluation.statistics import CHANGED
from dscm.evaluation.trust_tables import tabulate_trust
from dscm.training.readers import READERS

SUPPORT = (
    "Support: the error of what is intervened on, of the images that change (MAE in its unit, else %), where the "
    f"counterfactual parents are usual, and where they are rarer than all but {100 * RARE:g}% of the training data."
)
KEPT = (
    "Classes that should stay: the share of the images in which the oracle reads what it read off the observation, %. "
    "Where a reading was wrong before, it should be as wrong after."
)
PROBE = (
    "What the semantic code tells of the parents, ± standard error; an exogenous code tells nothing. Readers are "
    "fitted to three quarters of the codes of the whole split, 10,000 at most, and read the others."
)
RESEMBLANCE = (
    "Realism and minimality, in the features of the oracle and of torchvision's networks of ImageNet. The kernel "
    "distance (MMD² with a cubic kernel) is to other real images; that of real images, one half to the other, is its "
    "floor, which a model that returns the image scores exactly. A Fréchet distance needs two images for each feature "
    "on a side. CLD, of the images whose value changed, rewards closeness, not effectiveness: an unchanged image "
    "scores 0.295, lower is better (Melistas et al. 2024, in other features than theirs)."
)
SPLITS = {"test": "test", "valid": "validation"}  # in words
PUBLISHED = (  # in place of the solver's description
    "the procedure of the paper's code (1000 explicit steps of ddim, uniform in t; clean image clamped to [-1, 1] both "
    "ways; the image taken for the first timestep; slants of counterfactuals clamped to ±0.5 rad; L1 on [-1, 1], as "
    "some of its scripts average it, is twice that of these tables)"
)


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
    parts = [_caption(records), *_list_paths(records), _soundness(rows), _cost(rows)]
    parts += ["Effectiveness on the images whose value changed:", _effectiveness(rows, graph, CHANGED)]
    parts += ["On all images, as the paper has it:", _effectiveness(rows, graph, "")]
    if any(variable.kind == "binary" for variable in graph.attributes):
        parts += ["Binary attributes, added and removed:", _switches(rows, graph)]
    if any(variable.discrete for variable in graph.attributes):
        parts += [KEPT, _kept(rows, graph)]
    if any("support" in record.metrics for _, record in rows):
        parts += [SUPPORT, _support(rows, graph)]
    if any("probe" in record.metrics for _, record in rows):
        parts += [PROBE, _probe(rows)]
    if any("realism" in record.metrics for _, record in rows):
        parts += [RESEMBLANCE, _resemblance(rows)]
    parts += tabulate_trust(rows)
    if records.conditions.particles > 1:
        parts += [_describe_particles(records.conditions.particles), _particles(rows)]
    if records.conditions.cycles > 1:
        parts += ["After each cycle:", _cycles(rows, records.conditions.cycles)]
    if groups := find_groups(records.records):
        parts += ["Trainings of one setting, mean ± standard deviation over them [95% interval over the images]:"]
        parts.append(tabulate_spread(records, groups, graph))
    if len(rows) > 1:
        parts.append(f"Paired differences to {rows[0][0]} (L1 and LPIPS ×10⁻²){_warn_of_paths(records)}:")
        parts.append(tabulate_differences(records, rows, graph))
    return "\n\n".join(parts) + "\n"


def _caption(records: Records) -> str:
    """Say under which conditions the numbers were measured, and what they are."""
    conditions = records.conditions
    return (
        f"{conditions.n} {SPLITS[conditions.split]} images, seed {conditions.seed}, "
        f"{', '.join([f'{conditions.sampler} interventions', *filter(None, [describe_path(records)])])}, "
        f"{conditions.cycles} cycle(s). L1 ×10⁻² on [0, 1], LPIPS ×10⁻² (AlexNet), with 95% bootstrap intervals over "
        "the images. Composition: guided as the counterfactual is. 8 bits: images saved between two queries. "
        "Identity: counterfactual to composition. Truth: counterfactual to the true one; redrawn: its floor, the "
        "observation as its generator draws it; unchanged: the observation to the true one. Unsolved: how far the "
        "worst implicit step of an inversion still moved a pixel on [-1, 1] (RMS, mean over the images)."
        f"{_warn_of_corrections(records)}"
    )


def describe_path(records: Records) -> str:
    """Describe the path between image and noise, and where it is guided, in a few words; none where no row has one."""
    path, *guidance = describe(records.routes) or [""]
    if records.conditions.published:
        path = PUBLISHED
    elif path and records.conditions.precision == "bfloat16":
        path += ", bfloat16"
    return ", ".join(filter(None, [path, *guidance]))


def _list_paths(records: Records) -> list[str]:
    """List the paths of rows by number, where there are several."""
    paths = find_paths(records.routes)
    return ["\n".join(f"- path {i + 1}: {path}" for i, path in enumerate(paths))] if len(paths) > 1 else []


def _warn_of_corrections(records: Records) -> str:
    """Say who judges rows that were corrected by what is measured on them, if there are any."""
    corrected = any("corrected" in record.configuration.variant for record in records.records)
    return " Corrected: by the measurement that also judges how effective interventions are." if corrected else ""


def _warn_of_paths(records: Records) -> str:
    """Say that differences of rows come from their paths, too, where these differ."""
    several = len(find_paths(records.routes)) > 1 or len(find_intervals(records.routes)) > 1
    return "; rows along another path, or guided elsewhere, differ in that, too" if several else ""


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
            lines.append([label, f"do({do})", *(cell(record, path, 100, 3) for path in paths)])
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
        return [cell(record, (*path, a, prefix + m), factor, digits) for _, a, m, factor, digits in columns]

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
            cells = [cell(record, ("effectiveness", do, do, share), 100, 1) for share in shares]
            cells += [cell(record, ("truth", do, part), 100, 3) for part in ("inside_l1", "outside_l1")]
            lines.append([label, f"do({do})", *cells])
    places = ["truth L1 inside its place", "truth L1 outside"]
    return table(["mechanism", "intervention", "added %", "removed %", "mean %", *places], lines)


def _kept(rows: Rows, graph: Graph) -> str:
    """Tabulate how often the reading of each class stays where the class does."""
    names = [variable.name for variable in graph.attributes if variable.discrete]

    def line(label: str, shown: str, record: Record, path: tuple[str, ...]) -> list[str]:
        return [label, shown, *(cell(record, (*path, name, "kept"), 100, 1) for name in names)]

    first = rows[0][1]
    lines = [line("oracle", f"true do({do})", first, ("ceiling", do)) for do in first.metrics.get("ceiling", {})]
    for label, record in rows:
        lines += [line(label, f"do({do})", record, ("effectiveness", do)) for do in record.metrics["effectiveness"]]
    return table(["mechanism", "intervention", *names], lines)


def _support(rows: Rows, graph: Graph) -> str:
    """Tabulate the main error of every intervention where the parents that it makes are usual, and where rare."""
    lines = []
    for label, record in rows:
        for do in record.metrics.get("support", {}):
            error = main_error(graph.variable(do))
            factor, digits = (1, 3) if error == "mae" else (100, 1)
            errors = [cell(record, ("support", do, part), factor, digits) for part in ("usual", "rare")]
            share = cell(record, ("support", do, "rare_share"), 100, 1)
            lines.append([label, f"do({do})", METRIC_NAMES[error], *errors, share])
    return table(["mechanism", "intervention", "error", "usual parents", "rare parents", "rare %"], lines)


def _probe(rows: Rows) -> str:
    """Tabulate how well the parents are read from the code of each checkpoint."""
    lines, seen = [], set[str]()
    for label, record in rows:
        if record.configuration.sha256 in seen or "probe" not in record.metrics:
            continue
        seen.add(record.configuration.sha256)
        for parent, found in record.metrics["probe"].items():
            scores = [(found[reader], found[f"{reader}_error"]) for reader in READERS]
            cells = ["–" if s is None else f"{s:.3f}" + ("" if e is None else f" ± {e:.3f}") for s, e in scores]
            lines.append([label, parent, *cells, f"{found['chance']:.3f}"])
    return table(["mechanism", "parent", *READERS, "chance"], lines)


def _resemblance(rows: Rows) -> str:
    """Tabulate how real and how minimal counterfactuals are, in the features of every embedding."""
    known = dict.fromkeys(name for _, record in rows for x in record.metrics.get("realism", {}).values() for name in x)
    found = [name.removesuffix("_kernel") for name in known if name.endswith("_kernel")]
    columns: list[tuple[str, tuple[str, str], int]] = []
    for embedding in found:
        columns.append((f"{embedding} kernel distance ×10⁻³", ("realism", f"{embedding}_kernel"), 1000))
        if f"{embedding}_frechet" in known:
            columns.append((f"{embedding} Fréchet distance", ("realism", f"{embedding}_frechet"), 1))
        columns.append((f"{embedding} CLD", ("minimality", f"{embedding}_cld"), 1))

    def line(label: str, shown: str, record: Record, do: str) -> list[str]:
        return [label, shown, *(cell(record, (group, do, name), factor, 3) for _, (group, name), factor in columns)]

    measured = [(label, record) for label, record in rows if "realism" in record.metrics]
    lines = [line("real images", "none", measured[0][1], OBSERVED)]
    lines += [line(label, f"do({do})", r, do) for label, r in measured for do in r.metrics["effectiveness"]]
    return table(["mechanism", "intervention", *(title for title, *_ in columns)], lines)


def _describe_particles(particles: int) -> str:
    """Say what the table of particles shows."""
    covered = 100 * expected_coverage(particles)
    return (
        f"Counterfactuals are means over {particles} samples of the code (paper, eq. 15). Spread: the standard "
        "deviation of a pixel, mean over the image. Covered: pixels whose true value lies within "
        f"{WIDTH:g} standard deviations of the mean, of those that vary by more than {FLOOR:g}; a right posterior "
        f"covers {covered:.1f}%. Rank: particles nearer to the centre than the truth is; 0.5 if the posterior is "
        "right, 1 if it is too narrow."
    )


def _particles(rows: Rows) -> str:
    """Tabulate the spread of the particles, and how often it covers the truth."""
    columns = {"spread": ("spread", 100, 3), "pixels that vary %": ("varied", 100, 1), "covered %": ("covered", 100, 1)}
    columns["rank"] = ("rank", 1, 2)
    lines = [
        [label, f"do({do})", *(cell(record, ("particles", do, *path[:1]), *path[1:]) for path in columns.values())]
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
