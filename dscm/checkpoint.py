"""Checkpoints that carry what rebuilds the model, are written whole, and never execute anything when read."""

import copy
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dscm
from dscm.baselines.diffscm import DiffSCM
from dscm.baselines.hvae import HVAE
from dscm.baselines.vae import VAE
from dscm.baselines.vci import VCI
from dscm.errors import InputError
from dscm.files import atomic_path
from dscm.causal.graph_file import get_graph
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.causal.learned import LearnedAttributes
from dscm.oracle import Oracle

FORMAT = 1  # of the file; raised when an older program could not read a newer file or the reverse
KINDS = ("image", "attributes", "oracle")
MECHANISMS = {"diffusion": DiffusionMechanism, "vae": VAE, "hvae": HVAE, "vci": VCI, "diffscm": DiffSCM}


class EMA:
    """Keep an exponential moving average of a model's parameters.

    ``θ̄ ← d·θ̄ + (1 − d)·θ`` with ``d = min(decay, (1 + step)/(10 + step))``, which forgets the start.

    Args:
        model: whose parameters are averaged; ``average`` is a frozen copy of it.
        decay: d in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards ``model`` after ``step`` steps of training; buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.average.buffers(), model.buffers()):
            mine.copy_(theirs)


def build(kind: str, graph_key: str | dict[str, Any], config: dict[str, Any]) -> nn.Module:
    """Build the untrained model of a checkpoint.

    Args:
        kind: one of `KINDS`.
        graph_key: what `get_graph` takes.
        config: arguments of the model's constructor; of an image's also ``mechanism``, one of `MECHANISMS`.
    """
    graph = get_graph(graph_key)
    if kind == "oracle":
        return Oracle(graph.predicted, graph.image_channels, **config)
    if kind == "attributes":
        return LearnedAttributes(graph.attributes, **config)
    parents = [variable for variable in graph.attributes if variable.name in graph.image_parents]
    config = dict(config)
    mechanism = MECHANISMS[config.pop("mechanism", "diffusion")]
    return mechanism(parents, graph.image_channels, **config)


def save(
    path: Path,
    kind: str,
    model: nn.Module,
    graph_key: str | dict[str, Any],
    config: dict[str, Any],
    settings: dict[str, Any],
    **rest: Any,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        kind: one of `KINDS`.
        model: whose state is stored, usually the average.
        graph_key: of the graph it was trained on, as `get_graph` takes it.
        config: arguments of the model's constructor; tensors, numbers, strings, lists, dicts.
        settings: of the training, for the reader.
        rest: further plain entries, as the state that resumes a run.
    """
    content = {
        "format": FORMAT,
        "program": f"dscm {dscm.__version__}",
        "kind": kind,
        "graph": graph_key,
        "config": config,
        "settings": settings,
        "model": model.state_dict(),
        **rest,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def read(path: Path, kind: str) -> dict[str, Any]:
    """Read a checkpoint's content and check what it is.

    Args:
        path: the file.
        kind: one of `KINDS`, which it must hold.

    Raises:
        InputError: the file is missing, damaged, not a checkpoint of this program, of another format or kind,
            or holds anything but plain data (it is never executed).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        check_bytes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not a checkpoint of dscm, or it holds code, which was not run") from error
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise InputError(f"{path}: truncated or not a checkpoint") from error
    if not isinstance(content, dict) or not {"format", "kind", "graph", "config", "model"} <= content.keys():
        raise InputError(f"{path}: not a checkpoint of dscm")
    if content["format"] != FORMAT:
        raise InputError(f"{path}: checkpoint format {content['format']!r}; this program reads format {FORMAT}")
    if content["kind"] != kind:
        raise InputError(f"{path}: holds a model of kind '{content['kind']}'; '{kind}' is needed here")
    return content


def check_bytes(path: Path) -> None:
    """Raise ``ValueError`` if the bytes of a zip archive differ from its checksums, which torch does not check."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("damaged")


def restore(path: Path, kind: str, device: torch.device) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a model from its checkpoint, in float32 and evaluation mode.

    Args:
        path: the file.
        kind: one of `KINDS`.
        device: where the model goes.

    Returns:
        The model, and the checkpoint's content.

    Raises:
        InputError: as `read`, or the weights do not fit the model that the checkpoint describes.
    """
    content = read(path, kind)
    try:
        model = build(kind, content["graph"], content["config"])
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in content["model"].items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the weights do not fit the model that the checkpoint describes") from error
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise InputError(f"{path}: holds weights that are not finite")
    return model.to(device).eval().requires_grad_(False), content


def export(source: Path, kind: str, target: Path) -> None:
    """Write the averaged weights of the checkpoint ``source`` alone, in half precision, to ``target``."""
    content = read(source, kind)
    half: dict[str, Tensor] = {k: v.half() if v.is_floating_point() else v for k, v in content["model"].items()}
    kept = {
        k: content[k]
        for k in ("format", "program", "kind", "graph", "config", "settings", "step", "seconds", "test")
        if k in content
    }
    with atomic_path(target) as temporary:
        torch.save(kept | {"model": half}, temporary)
