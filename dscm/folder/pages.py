"""A page that explains the answers about one image: pictures, graph and checks, as PNG and as HTML by itself."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dscm.causal.graph import Graph
from dscm.causal.variables import write_number
from dscm.files import atomic_path
from dscm.plots.graph import picture_graph
from dscm.plots.sheets import FONT_SIZE, GAP, Row, make_sheet
from dscm.trust.checks import Checks

STYLE = "body{font-family:sans-serif;margin:2em;max-width:60em}img{image-rendering:pixelated;max-width:100%}"
Values = Mapping[str, float]


def write_page(
    paths: tuple[Path, Path],
    name: str,
    rows: Sequence[Row],
    graph: Graph,
    before: Values,
    after: Mapping[str, Values],
    checks: Mapping[str, Checks],
    i: int,
) -> None:
    """Write the page of one image.

    Args:
        paths: the PNG file, and the HTML file, which holds its pictures itself.
        name: of the image.
        rows: of its contact sheet, one image each.
        graph: the causal graph.
        before: the observed attributes, by name.
        after: by query, the counterfactual ones.
        checks: by query, of the image's batch.
        i: the number of the image in it.
    """
    sheet = make_sheet(rows, name)
    parts = []
    for query, values in after.items():
        words = describe_checks(checks[query], i, before, values, graph)
        parts.append((query, picture_graph(graph, describe_changes(graph, before, values)), words))
    with atomic_path(paths[0]) as temporary:
        _stack([sheet, *(image for part in parts for image in (_write_lines([part[0]]), part[1], _write_lines(part[2])))
                ]).save(temporary, format="PNG")  # fmt: skip
    text = [f"<!doctype html><meta charset=utf-8><title>{html.escape(name)}</title><style>{STYLE}</style>"]
    text.append(f"<h1>{html.escape(name)}</h1>{_embed(sheet, 'observation, composition, counterfactuals, effects')}")
    for query, picture, words in parts:
        text.append(f"<h2>{html.escape(query)}</h2>{_embed(picture, 'what changed in the graph')}<ul>")
        text += [f"<li>{html.escape(line)}</li>" for line in words]
        text.append("</ul>")
    with atomic_path(paths[1]) as temporary:
        temporary.write_bytes("\n".join(text).encode("utf-8", "replace"))


def describe_changes(graph: Graph, before: Values, after: Values) -> dict[str, str]:
    """Say of each attribute that is another under a query from which value to which, as in ``2.1 to 5 px``."""
    notes = {}
    for variable in (variable for variable in graph.attributes if after[variable.name] != before[variable.name]):
        old, new = (_show(graph, variable.name, values[variable.name]) for values in (before, after))
        notes[variable.name] = f"{old} to {new} {variable.unit}".rstrip()
    return notes


def describe_checks(checks: Checks, i: int, before: Values, after: Values, graph: Graph) -> list[str]:
    """Say the checks of one answer in words, a sentence each; of what is not known, nothing.

    Args:
        checks: of the batch.
        i: the number of the image in it.
        before, after: its attributes, as observed and under the query.
        graph: the causal graph.
    """
    origin, marks = checks.origin, checks.marks[i]
    lines = [f"Doubtful: {', '.join(marks)}." if marks else "Nothing speaks against this answer."]
    if checks.support is not None:
        share = f"{100 * checks.support[i].item():.3g}% of the training data are as unusual as the new attributes"
        lines.append(f"Support: {share}; the oddest: {checks.odd[i]}.")
    if origin.noise is not None:
        share = f"{100 * origin.noise[i].item():.3g}% of the validation images, or their noise, are as unusual"
        lines.append(f"Typicality: {share}; the oddest: {origin.odd[i]}.")
    if origin.composition is not None:
        lines.append(f"Composition: asked for no change, the image differs by {origin.composition[i].item():.3g} (L1)"
                     f"{_share(origin.composition_rank, i)}.")  # fmt: skip
    for name, read in checks.after.items():
        if name in graph.image_parents:
            lines.append(_describe_reading(checks, i, name, read[i].item(), before[name], after[name], graph))
    for name, spread in checks.spread.items():
        unit = "of the particles differ" if graph.variable(name).discrete else graph.variable(name).unit
        lines.append(f"Uncertainty of {name}: {spread[i].item():.3g} {unit}".rstrip() + ".")
    lines.append(f"Identity: the counterfactual differs from the composition by {checks.identity[i].item():.3g} (L1)"
                 f"{_share(checks.identity_rank, i)}.")  # fmt: skip
    return lines


def _describe_reading(checks: Checks, i: int, name: str, read: float, before: float, after: float, graph: Graph) -> str:
    """Say what is read of one attribute off the answer, and whether that is as it should be."""
    kept = before == after and name not in checks.missed[i]
    wanted = f"should stay {_show(graph, name, before)}" if kept else f"should be {_show(graph, name, after)}"
    wrong = name in checks.missed[i] or name in checks.moved[i]
    verdict = ("missed" if name in checks.missed[i] else "moved") if wrong else "stayed" if kept else "met"
    units = f", {checks.errors[name][i].item():.3g} times the tolerance off" if name in checks.errors else ""
    return f"{name} {wanted}, and is read as {_show(graph, name, read)}{units}: {verdict}."


def _share(rank: object, i: int) -> str:
    """Say how many validation images differ as much, where that is known."""
    return "" if rank is None else f"; {100 * rank[i].item():.3g}% of the validation images as much"  # type: ignore[index]


def _show(graph: Graph, name: str, value: float) -> str:
    """Write a value with three digits, or a class by its label."""
    variable = graph.variable(name)
    return variable.show(value) if variable.discrete else write_number(float(f"{value:.3g}"))


def _embed(picture: Image.Image, words: str) -> str:
    """Write a picture as an element of HTML that holds it."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f'<p><img alt="{words}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"></p>'


def _write_lines(lines: Sequence[str]) -> Image.Image:
    """Write lines of text as a picture."""
    font = ImageFont.load_default(FONT_SIZE)
    width = int(max(font.getlength(line) for line in lines)) + 2 * GAP
    picture = Image.new("RGB", (width, (FONT_SIZE + GAP) * len(lines) + GAP), "white")
    for k, line in enumerate(lines):
        ImageDraw.Draw(picture).text((GAP, GAP + k * (FONT_SIZE + GAP)), line, fill="black", font=font)
    return picture


def _stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures below each other."""
    whole = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole
