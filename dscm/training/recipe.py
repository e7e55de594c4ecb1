"""What a command line and the presets together ask of a training."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dscm import checkpoint
from dscm.cli import parts
from dscm.training.baseline_presets import BASELINES, get_baseline_preset
from dscm.training.tuning import CounterfactualTuning
from dscm.cli.arguments import warn_of_emulation
from dscm.data.scaling import to_signed
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.causal.graph_file import get_graph
from dscm.training.presets import Preset, get_preset

P_NULL = 0.1  # the paper's choice for most tasks
LEVEL_OF = 1000  # images that say how good a mechanism is before it is tuned


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
        preset = get_baseline_preset(args.mechanism, graph.data_set, args.preset, graph.image_size)
    else:
        preset = get_preset(part, graph.data_set, args.preset, graph.image_size)
    if part == "image" and args.patch:
        sizes = {"model": with_patch(preset.model, args.patch), "semantic": with_patch(preset.semantic, args.patch)}
        preset = replace(preset, **sizes)
    return preset


def choose_bfloat16(args: argparse.Namespace, device: torch.device) -> bool:
    """Say whether networks are trained in bfloat16: by default on a GPU; warn of a CPU that only emulates it."""
    if args.part == "attributes":
        return False
    chosen = (args.precision or ("bfloat16" if device.type == "cuda" else "float32")) == "bfloat16"
    if chosen:
        warn_of_emulation(device)
    return chosen


def start_tuning(
    args: argparse.Namespace, preset: Preset, graph: Graph, data: Mapping[str, Tensor], device: torch.device
) -> tuple[CounterfactualTuning, dict[str, Any]]:
    """Restore what ``--fine-tune`` names, and what it is tuned by.

    Args:
        args: the command line.
        preset: of the mechanism.
        graph: the causal graph.
        data: the training split, uint8 images; its beginning says how good the mechanism is.
        device: where to train.

    Returns:
        The objective, and the arguments of the mechanism's constructor.

    Raises:
        InputError: the checkpoint is of another mechanism, graph or size, or a part is missing.
    """
    mechanism, content = checkpoint.restore(args.fine_tune, "image", device)
    wanted = (args.mechanism, graph.key, data["image"].shape[-1])
    if wanted != (mechanism.kind, content["graph"], mechanism.shape[-1]):
        found = f"{mechanism.kind} of {get_graph(content['graph']).name}, {mechanism.shape[-1]} px"
        raise InputError(f"--fine-tune {args.fine_tune}: holds {found}, not {args.mechanism} of {graph.name}, "
                         f"{wanted[-1]} px")  # fmt: skip
    parts.choose_parts(args, graph)
    oracle = parts.restore_oracle(graph, args.oracle, device)
    learned = parts.restore_attributes(graph, args.attributes, device)
    objective = CounterfactualTuning(mechanism.requires_grad_(True), oracle, graph.scm(learned=learned)).to(device)
    some = {name: value[:LEVEL_OF] for name, value in data.items()}
    generator = torch.Generator(device).manual_seed(args.seed)
    beta = preset.beta if args.beta is None else args.beta
    objective.set_bound(to_signed(some.pop("image")), some, generator, beta)
    return objective, content["config"]


def largest_patch(model: Any) -> int:
    """Return the largest patch in a model's settings."""
    if not isinstance(model, Mapping):
        return 1
    return max([model.get("patch", 1), *map(largest_patch, model.values())])


def with_patch(model: Mapping[str, Any], patch: int) -> dict[str, Any]:
    """Return a model's settings with all its networks, which are what has ``channels``, on patches of one size."""
    changed = {key: with_patch(value, patch) if isinstance(value, Mapping) else value for key, value in model.items()}
    return changed | {"patch": patch} if "channels" in model else changed


def model_config(args: argparse.Namespace, graph: Graph, preset: Preset) -> dict[str, Any]:
    """Collect the arguments of the model's constructor from the preset and the command line."""
    config = dict(preset.model)
    if args.part == "image":
        config["size"] = image_size(args, graph)
    if args.part == "image" and args.mechanism == "semantic":
        config |= preset.semantic
    return config | {name: getattr(args, name) for name in ("prior", "likelihood") if getattr(args, name)}


# Options of some mechanisms alone, and whose they are.
OWNERS: Mapping[str, tuple[str, ...]] = {
    "prior": ("semantic",),
    "likelihood": ("vae", "hvae", "vci"),
    "fine_tune": ("vae", "hvae"),
    "p_null": ("spatial", "semantic"),
    "null_apart": ("spatial", "semantic"),
    "beta": ("semantic", "vae", "hvae", "vci"),
    "patch": ("spatial", "semantic", *BASELINES),
}
BUILT = ("patch", "prior", "likelihood")  # what a model that is tuned further has already


def check_own_options(args: argparse.Namespace) -> None:
    """Refuse an option of `OWNERS` that what is trained does not have, and one of `BUILT` for a model that exists.

    Raises:
        InputError: one was given.
    """
    for name in BUILT:
        if args.fine_tune and getattr(args, name):
            raise InputError(f"--{name} {getattr(args, name)}: is settled by the model of --fine-tune; leave it out")
    for name, owners in OWNERS.items():
        if getattr(args, name) is not None and (args.part != "image" or args.mechanism not in owners):
            what = args.mechanism if args.part == "image" else f"--part {args.part}"
            value = "" if getattr(args, name) is True else f" {getattr(args, name)}"
            flag = f"--{name.replace('_', '-')}{value}"
            raise InputError(f"{flag}: not known to {what}; an option of {', '.join(owners)}")


def objective_arguments(args: argparse.Namespace, preset: Preset, step: int) -> dict[str, float]:
    """Return the further arguments of the objective at a step: p_∅, the warmed-up β and the focus, or some of them."""
    if args.part != "image":
        return {}
    if args.mechanism == "diffscm":
        return {"focus": preset.focus}
    beta = preset.beta if args.beta is None else args.beta
    beta *= 1.0 if args.fine_tune else min(1.0, step / max(preset.beta_warmup, 1))
    if args.mechanism in BASELINES:
        return {"beta": beta}
    return {"p_null": args.p_null, "beta": beta, "focus": preset.focus, "apart": bool(args.null_apart)}
