"""Images and questions that a model cannot know, and whether its checks tell them from usual ones."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.causal.scm import SCM
from dscm.causal.support import RARE, Support
from dscm.data.phantoms import faces
from dscm.data.phantoms.shapes import draw_shapes
from dscm.data.scaling import to_levels, to_signed
from dscm.evaluation.foresight import area_under_curve
from dscm.evaluation.task import Task, draw_parents
from dscm.oracle import find_faults, observe
from dscm.trust.inspection import Inspector
from dscm.trust.ranks import ALARM
from dscm.trust.typicality import Typicality, describe

MOST = 128  # images of each kind
ONE_SIDED = ("embed",)  # data sets whose images all lie on one side, so that a mirrored one is foreign
BEYOND = (0.1, 0.5)  # how far outside the training data a question lies, in widths of their range
Paths = dict[tuple[str, ...], Tensor]


def draw_foreign(usual: Tensor, one_sided: bool, seed: int) -> dict[str, Tensor]:
    """Draw foreign images of every kind, as many as there are usual ones, and of their shape.

    Args:
        usual: images of the data set, uint8 (N, C, H, W).
        one_sided: whether a mirrored one is foreign.
        seed: of what is drawn.

    Returns:
        By kind, uint8 (N, C, H, W): inverted and, if asked for, mirrored images; noise; simple shapes; and drawn faces.
    """
    n, channels, height, width = usual.shape
    generator, device = torch.Generator().manual_seed(seed), usual.device
    noise = torch.randint(256, usual.shape, generator=generator, dtype=torch.uint8)
    drawn = draw_shapes(n, height, generator)
    index = torch.arange(n)
    portraits = faces.redraw(seed, index, faces.draw_attributes(seed, index)).float()
    grey = portraits.mean(dim=1, keepdim=True) if channels == 1 else portraits
    small = interpolate(grey, (height, width), mode="bilinear", antialias=True).round().clamp(0, 255)
    kinds = {"inverted": 255 - usual} | ({"mirrored": usual.flip(-1)} if one_sided else {})
    kinds |= {"noise": noise, "shapes": drawn.expand(n, channels, -1, -1), "drawn faces": small.to(torch.uint8)}
    return {kind: images.to(device) for kind, images in kinds.items()}


@torch.no_grad()
def detect_foreign(scm: SCM, inspector: Inspector, task: Task, seed: int) -> Paths:
    """Measure how well the checks of an image tell foreign ones from test images.

    Attributes are read off all of them, as those of a user's own are. An image's alarm is the smaller of two ranks:
    that of its noise, and that of its attributes in the training data. One that is refused has the rank 0.

    Args:
        scm: the model.
        inspector: its checks.
        task: test images, of which the first `MOST` are taken.
        seed: of what is drawn.

    Returns:
        ``("detection", kind, measure)``: the ``area``, as `area_under_curve`, (1,), and the share that is ``alarmed``,
        (N,); of ``test images`` the share alone, the false alarms. Nothing, if the checkpoint has no reference, or one
        of other settings.
    """
    reference, sampling = inspector.reference, scm.mechanism("image").sampling
    if reference is None or reference.noise is None or not reference.suits(sampling)[0]:
        return {}
    usual = to_levels(task.obs["image"][:MOST])
    known = rank_images(scm, inspector, reference.noise, usual, seed)
    result: Paths = {("detection", "test images", "alarmed"): (known < ALARM).double()}
    for kind, images in draw_foreign(usual, inspector.graph.data_set in ONE_SIDED, seed).items():
        found = rank_images(scm, inspector, reference.noise, images, seed)
        result["detection", kind, "area"] = torch.tensor([area_under_curve(-known, -found)])
        result["detection", kind, "alarmed"] = (found < ALARM).double()
    return result


def rank_images(scm: SCM, inspector: Inspector, typicality: Typicality, images: Tensor, seed: int) -> Tensor:
    """Return the smaller of the ranks of each image's noise and of its attributes, as `detect_foreign`, (N,)."""
    x = to_signed(images)
    obs, support = observe(x, inspector.graph, inspector.oracle), inspector.support
    refused = torch.zeros(len(x), dtype=torch.bool)
    refused[list(find_faults(inspector.graph, {**obs, "image": x}))] = True
    ranks = torch.zeros(len(x))
    if not (kept := (~refused).nonzero()[:, 0].to(x.device)).numel():
        return ranks
    chosen = {name: value[kept] for name, value in obs.items()}
    noise = scm.abduct({**chosen, "image": x[kept]}, make_streams(seed, kept.tolist(), x.device))
    found = [typicality.how_usual(describe(noise["image"], x[kept]))]
    found += [support.quantile(chosen)] if support else []
    ranks[~refused] = torch.stack([rank.cpu() for rank in found]).amin(dim=0)
    return ranks


def detect_far(
    support: Support, graph: Graph, task: Task, seed: int, learned: LearnedAttributes | None = None
) -> Paths:
    """Measure how well support tells questions outside the training data from those of an evaluation.

    Each number is set, by itself, outside the range of the training data by a uniform share of its width, `BEYOND`;
    half of them below and half above, where the domain has room.

    Args:
        support: of a checkpoint.
        graph: the causal graph.
        task: the images and the interventions, whose counterfactual parents are the usual questions.
        seed: of the draws.
        learned: as in `draw_parents`.

    Returns:
        As `detect_foreign`; the kinds are ``NAME outside``.
    """
    generator = torch.Generator().manual_seed(seed)
    parents = draw_parents(graph, task.obs, task.interventions, seed, learned)
    names = [variable.name for variable in support.variables]
    usual = {name: torch.cat([values[name].cpu() for values in parents.values()]) for name in names}
    known = support.quantile(usual)
    result: Paths = {}
    for variable in (v for v in support.variables if v.real and v.kind != "circular"):
        low, high = support.range(variable.name)
        first, last = variable.ends
        share = BEYOND[0] + (BEYOND[1] - BEYOND[0]) * torch.rand(len(known), generator=generator)
        below, above = low - share * (high - low), high + share * (high - low)
        down = torch.arange(len(known)) % 2 == 0
        value = torch.where(down, below, above)
        value = torch.where((value < first) | (value > last), torch.where(down, above, below), value)
        allowed = (value >= first) & (value <= last)
        if not allowed.any():
            continue
        asked = {name: x[allowed] for name, x in usual.items()} | {variable.name: value[allowed]}
        found = support.quantile(asked)
        result["detection", f"{variable.name} outside", "area"] = torch.tensor([area_under_curve(-known, -found)])
        result["detection", f"{variable.name} outside", "alarmed"] = (found < RARE).double()
    return result
