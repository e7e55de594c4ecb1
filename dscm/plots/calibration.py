"""Draw how well learned attributes fit held-out data, one panel a variable."""

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dscm.plots.sheets import BLUE, GAP
from dscm.files import atomic_path
from dscm.causal.learned import LearnedAttributes, LearnedMechanism

BARS = 10  # of the ranks of a real variable
WIDTH, HEIGHT = 220, 120  # of a panel, in pixels
FONT_SIZE = 12


@torch.no_grad()
def shares(mechanism: LearnedMechanism, value: Tensor, parents: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Compare what was observed with what the mechanism says.

    Args:
        mechanism: of the variable.
        value: held-out values, (N,).
        parents: of each, (N,).

    Returns:
        Observed and expected shares, each (bars,): of classes, or, of a real variable, of the ranks of its values in
        equal parts of [0, 1].
    """
    if mechanism.variable.real:
        bar = (mechanism.rank(value, parents) * BARS).long().clamp(0, BARS - 1)
        return torch.bincount(bar, minlength=BARS) / len(value), torch.full((BARS,), 1 / BARS)
    classes = mechanism.variable.classes or 2
    expected = [mechanism.log_prob(torch.full_like(value, k), parents).exp().mean() for k in range(classes)]
    return torch.bincount(value, minlength=classes) / len(value), torch.stack(expected)


def draw_calibration(path: Path, model: LearnedAttributes, data: Mapping[str, Tensor]) -> None:
    """Write the panels as one PNG: bars are observed shares, lines expected ones.

    Args:
        path: the file.
        model: the mechanisms.
        data: held-out attributes, each (N,).
    """
    sheet = Image.new("RGB", (WIDTH + 2 * GAP, len(model.mechanisms) * (HEIGHT + FONT_SIZE + 3 * GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    fill = tuple(round(255 * part) for part in BLUE)
    top = GAP
    for name, mechanism in model.mechanisms.items():
        parents = {parent: data[parent] for parent in model.parents[name]}
        observed, expected = (part.cpu() for part in shares(mechanism, data[name], parents))
        what = "ranks of its values" if mechanism.variable.real else "classes"
        draw.text((GAP, top), f"{name}: {what}", fill="black", font=font)
        floor, step = top + FONT_SIZE + GAP + HEIGHT, WIDTH / len(observed)
        scale = (HEIGHT - GAP) / max(observed.max().item(), expected.max().item())
        for i, (bar, line) in enumerate(zip(observed.tolist(), expected.tolist())):
            left, right = GAP + i * step, GAP + (i + 1) * step
            draw.rectangle((left + 1, floor - bar * scale, right - 1, floor), fill=fill)
            draw.line((left, floor - line * scale, right, floor - line * scale), fill="black", width=2)
        top = floor + 2 * GAP
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
