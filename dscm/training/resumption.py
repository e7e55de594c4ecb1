"""What a training resumes from: its checkpoint, which must be of the same graph and the same settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dscm import checkpoint
from dscm.causal.graph import Graph
from dscm.checkpoint import Part
from dscm.data.framing import Framing
from dscm.errors import InputError, option

RESUMES = {"settings", "step", "seconds", "raw", "optimiser"}  # entries of a checkpoint


def read_state(path: Path, part: Part) -> dict[str, Any]:
    """Read the checkpoint to resume.

    Args:
        path: the checkpoint.
        part: the part of the model that it must hold.

    Raises:
        InputError: there is none, it is damaged, or it holds weights alone.
    """
    state = checkpoint.read(path, part)
    if not state.keys() >= RESUMES:
        raise InputError(f"{path}: holds weights alone, without what resumes a training")
    if not isinstance(state["settings"], dict):
        raise InputError(f"{path}: damaged: its settings are not readable")
    return state


def check_settings(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any], graph: Graph) -> None:
    """Refuse to resume a training of another graph or with other settings.

    Args:
        path: the checkpoint.
        state: its content.
        settings: those of the training that is to go on, as `Recipe.record` returns them.
        graph: its graph.

    Raises:
        InputError: one differs.
    """
    old = {**state["settings"], "fit": Framing.of(state["settings"], graph.data_set).fit}
    if graph.data_set != "morphomnist":  # of which earlier versions trained on the validation digits, too
        old.setdefault("mixture", True)
    for name, value in settings.items():
        if old.get(name) == value:
            continue
        if name == "world":
            raise InputError(f"{path}: was made by {old.get(name)} processes, not {value}")
        raise InputError(
            f"{path}: was made with {option(name)} {old.get(name)}, not {value}; give the same to {option('resume')}"
        )
    if state["graph"] != graph.key:
        raise InputError(f"{path}: was trained with another graph; name another {option('out')}")
