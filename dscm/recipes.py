"""What a command line and the presets together ask of a training."""

import argparse
from collections.abc import Mapping
from typing import Any

from dscm.baselines.presets import BASELINES, get_baseline_preset
from dscm.errors import InputError
from dscm.graph import Graph
from dscm.presets import Preset, get_preset


def image_size(args: argparse.Namespace, graph: Graph) -> int:
    """Return the side of the images in pixels: what the command line says, or the graph.

    Raises:
        InputError: it does not divide into the preset's patches.
    """
    size = args.size or graph.image_size
    patch = largest_patch(choose_preset(args, graph, "image").model)
    if size % patch:
        raise InputError(f"--size {size}: must be a multiple of {patch}, the side of the model's patches")
    return size


def choose_preset(args: argparse.Namespace, graph: Graph, part: str | None = None) -> Preset:
    """Return the preset of what is trained, or of another part of the same model."""
    part = part or args.part
    if part == "image" and args.mechanism in BASELINES:
        return get_baseline_preset(args.mechanism, graph.data_set, args.preset, graph.image_size)
    return get_preset(part, graph.data_set, args.preset, graph.image_size)


def largest_patch(model: Any) -> int:
    """Return the largest patch in a model's settings."""
    if not isinstance(model, Mapping):
        return 1
    return max([model.get("patch", 1), *map(largest_patch, model.values())])


def model_config(args: argparse.Namespace, graph: Graph, preset: Preset) -> dict[str, Any]:
    """Collect the arguments of the model's constructor from the preset and the command line."""
    config = dict(preset.model)
    if args.part == "image":
        config["size"] = image_size(args, graph)
    if args.part == "image" and args.mechanism == "semantic":
        config |= preset.semantic
    return config | {name: getattr(args, name) for name in OWNERS if getattr(args, name)}


# Options of some mechanisms alone, and whose they are.
OWNERS: Mapping[str, tuple[str, ...]] = {"prior": ("semantic",), "likelihood": ("vae", "hvae", "vci")}


def check_own_options(args: argparse.Namespace) -> None:
    """Refuse an option of `OWNERS` that what is trained does not have.

    Raises:
        InputError: one was given.
    """
    for name, owners in OWNERS.items():
        if getattr(args, name) and (args.part != "image" or args.mechanism not in owners):
            what = args.mechanism if args.part == "image" else f"--part {args.part}"
            raise InputError(f"--{name} {getattr(args, name)}: not known to {what}; an option of {', '.join(owners)}")


def objective_arguments(args: argparse.Namespace, preset: Preset, step: int) -> dict[str, float]:
    """Return the further arguments of the objective at a step: p_∅, the warmed-up β and the focus, or some of them."""
    if args.part != "image":
        return {}
    if args.mechanism == "diffscm":
        return {"focus": preset.focus}
    beta = preset.beta if args.beta is None else args.beta
    beta *= min(1.0, step / max(preset.beta_warmup, 1))
    return (
        {"beta": beta} if args.mechanism in BASELINES else {"p_null": args.p_null, "beta": beta, "focus": preset.focus}
    )
