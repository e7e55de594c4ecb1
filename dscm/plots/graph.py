"""Pictures of causal graphs: causes above their effects."""

import math
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dscm.causal.graph import Graph
from dscm.causal.scm import topological_order
from dscm.files import atomic_path

FONT_SIZE, PAD = 14, 8
GAP, STEP = 28, 84  # pixels between the boxes of a layer, and from layer to layer
TINT = (255, 236, 179)  # of what is noted
HEAD = 8  # pixels of an arrow's head
Box = tuple[float, float, float, float]  # left, top, right, bottom


def layers(graph: Graph) -> list[list[str]]:
    """Put each variable one layer below the lowest of its parents."""
    parents = {variable.name: variable.parents for variable in graph.variables}
    depth: dict[str, int] = {}
    for name in topological_order(parents):
        depth[name] = 1 + max((depth[parent] for parent in parents[name]), default=-1)
    return [[name for name in depth if depth[name] == level] for level in range(max(depth.values()) + 1)]


def draw_graph(path: Path, graph: Graph) -> None:
    """Write `picture_graph` as PNG."""
    with atomic_path(path) as temporary:
        picture_graph(graph).save(temporary, format="PNG")


def picture_graph(graph: Graph, notes: Mapping[str, str] = {}) -> Image.Image:
    """Draw the graph; a variable whose mechanism is learned has a thick frame.

    Args:
        graph: the causal graph.
        notes: by variable, a word after its name; its box is tinted.
    """
    font = ImageFont.load_default(FONT_SIZE)
    rows = layers(graph)
    texts = {v.name: f"{v.name} {notes[v.name]}" if v.name in notes else v.name for v in graph.variables}
    widths = {name: font.getlength(text) + 2 * PAD for name, text in texts.items()}
    spans = [sum(widths[name] for name in row) + GAP * (len(row) - 1) for row in rows]
    width, height = max(spans) + 2 * GAP, STEP * len(rows)
    boxes: dict[str, Box] = {}
    for level, (row, span) in enumerate(zip(rows, spans)):
        left, top = (width - span) / 2, STEP * level + (STEP - FONT_SIZE - 2 * PAD) / 2
        for name in row:
            boxes[name] = (left, top, left + widths[name], top + FONT_SIZE + 2 * PAD)
            left += widths[name] + GAP
    picture = Image.new("RGB", (math.ceil(width), math.ceil(height)), "white")
    draw = ImageDraw.Draw(picture)
    for variable in graph.variables:
        for parent in variable.parents:
            _arrow(draw, boxes[parent], boxes[variable.name])
    for variable in graph.variables:
        box = boxes[variable.name]
        frame = 3 if variable.learned or variable.kind == "image" else 1
        fill = TINT if variable.name in notes else "white"
        draw.rounded_rectangle(box, PAD, fill=fill, outline="black", width=frame)
        draw.text((box[0] + PAD, box[1] + PAD - 1), texts[variable.name], fill="black", font=font)
    return picture


def _arrow(draw: ImageDraw.ImageDraw, start: Box, end: Box) -> None:
    """Draw an arrow from the bottom of one box to the top of another."""
    x0, y0, x1, y1 = (start[0] + start[2]) / 2, start[3], (end[0] + end[2]) / 2, end[1]
    draw.line((x0, y0, x1, y1), fill="grey", width=2)
    angle = math.atan2(y1 - y0, x1 - x0)
    wings = [(x1 - HEAD * math.cos(angle + turn), y1 - HEAD * math.sin(angle + turn)) for turn in (-0.4, 0.4)]
    draw.polygon([(x1, y1), *wings], fill="grey")
