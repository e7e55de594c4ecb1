"""Calibration of learned attributes on held-out data, one panel a variable."""

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dscm.causal.learned import LearnedAttributes, LearnedMechanism
from dscm.files import atomic_path
from dscm.plots.sheets import BLUE, FONT_SIZE, GAP

BARS = 10  # of the ranks of a real variable
WIDTH, HEIGHT = 220, 120  # of a panel, in pixels


@torch.no_grad()
def shares(mechanism: LearnedMechanism, value: Tensor, parents: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Compare observed frequencies with those that a mechanism predicts.

    Args:
        mechanism: the mechanism of the variable.
        value: held-out values, (N,).
        parents: each (N,).

    Returns:
        Observed and expected shares, each (bars,): of the classes or, for a real variable, of the ranks of its values
        in equal parts of [0, 1].
    """
    if mechanism.variable.real:
        bar = (mechanism.rank(value, parents) * BARS).long().clamp(0, BARS - 1)
        return torch.bincount(bar, minlength=BARS) / len(value), torch.full((BARS,), 1 / BARS)
    classes = mechanism.variable.classes or 2
    expected = [mechanism.log_prob(torch.full_like(value, k), parents).exp().mean() for k in range(classes)]
    return torch.bincount(value, minlength=classes) / len(value), torch.stack(expected)


def draw_calibration(path: Path, model: LearnedAttributes, data: Mapping[str, Tensor]) -> None:
    """Write the panels as one PNG file: bars are observed shares, lines expected ones.

    Args:
        path: the file.
        model: the mechanisms.
        data: held-out attributes, each (N,).
    """
    sheet = Image.new("RGB", (WIDTH + 2 * GAP, len(model.mechanisms) * (HEIGHT + FONT_SIZE + 3 * GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    fill = (round(255 * BLUE[0]), round(255 * BLUE[1]), round(255 * BLUE[2]))
    top = GAP
    for name in model.mechanisms:
        mechanism = model.mechanism(name)
        parents = {parent: data[parent] for parent in model.parents[name]}
        observed, expected = (part.cpu() for part in shares(mechanism, data[name], parents))
        title = "ranks of its values" if mechanism.variable.real else "classes"
        draw.text((GAP, top), f"{name}: {title}", fill="black", font=font)
        floor, step = top + FONT_SIZE + GAP + HEIGHT, WIDTH / len(observed)
        scale = (HEIGHT - GAP) / max(observed.max().item(), expected.max().item())
        for i, (bar, line) in enumerate(zip(observed.tolist(), expected.tolist())):
            left, right = GAP + i * step, GAP + (i + 1) * step
            draw.rectangle((left + 1, floor - bar * scale, right - 1, floor), fill=fill)
            draw.line((left, floor - line * scale, right, floor - line * scale), fill="black", width=2)
        top = floor + 2 * GAP
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
