"""Checkpoints that carry all that rebuilds a model, are written whole, and execute nothing when read."""

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from dscm.baselines.diffscm import DiffSCM
from dscm.baselines.hvae import HVAE, MediatorHVAE
from dscm.baselines.vae import VAE
from dscm.baselines.vci import VCI
from dscm.causal.graph import Graph
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.learned import LearnedAttributes
from dscm.causal.support import Support
from dscm.causal.variables import Variable
from dscm.diffusion.correction import Reader
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.errors import InputError
from dscm.files import __version__, atomic_path
from dscm.graphs import get_graph
from dscm.oracle import Oracle, observe
from dscm.settings import change
from dscm.trust.reference import Reference

FORMAT = 1  # of the file; raised when programs and files of different versions cannot read each other
Part = Literal["image", "attributes", "oracle"]
PARTS: tuple[Part, ...] = ("image", "attributes", "oracle")
MECHANISMS: Mapping[str, type[ImageMechanism[Any]]] = {
    "diffusion": DiffusionMechanism,
    "vae": VAE,
    "hvae": HVAE,
    "hvae-mediator": MediatorHVAE,
    "vci": VCI,
    "diffscm": DiffSCM,
}
EXPORTED = (  # entries that a bundled checkpoint keeps besides its weights
    *("format", "program", "kind", "graph", "config", "settings", "step", "seconds", "test"),
    *("support", "reference", "sampling"),
)
ModelT = TypeVar("ModelT", bound=nn.Module)
EntryT = TypeVar("EntryT")


@dataclass(frozen=True)
class Restored(Generic[ModelT]):
    """A trained part of a causal model, as its checkpoint holds it.

    Args:
        model: in float32 and evaluation mode, without gradients.
        path: the path of the checkpoint.
        graph: the causal graph that it was trained on.
        config: arguments of the model's constructor.
        settings: the settings of its training.
        step: number of training steps; None where the checkpoint does not say.
        seconds: duration of the training, likewise.
        sha256: hash of the file.
        support: what the training data said of the variables of `list_supported`; None of an older checkpoint.
        reference: what the part does on validation images; likewise.
        sampling: settings of an image's mechanism that were chosen for it, which it has; those not named are usual.
    """

    model: ModelT
    path: Path
    graph: Graph
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    step: int | None
    seconds: float | None
    sha256: str
    support: Support | None = None
    reference: Reference | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


def build(part: Part, graph: Graph, config: Mapping[str, Any]) -> nn.Module:
    """Build an untrained part of a causal model.

    Args:
        part: which.
        graph: the causal graph.
        config: arguments of the model's constructor; of an image's also ``mechanism``, one of `MECHANISMS`.
    """
    if part == "oracle":
        arguments = dict(config)
        known = graph.attributes if arguments.pop("every", False) else graph.predicted
        return Oracle(known, graph.image_channels, **arguments)
    if part == "attributes":
        return LearnedAttributes(graph.attributes, **config)
    arguments = dict(config)
    mechanism = cast(Any, MECHANISMS[arguments.pop("mechanism", "diffusion")])
    return mechanism(list_supported(part, graph), graph.image_channels, **arguments)


def list_supported(part: Part, graph: Graph) -> list[Variable]:
    """List the variables whose training data a checkpoint describes: of an image its parents, of attributes all."""
    names = {"image": graph.image_parents, "attributes": [v.name for v in graph.attributes], "oracle": ()}[part]
    return [variable for variable in graph.attributes if variable.name in names]


def save(
    path: Path,
    part: Part,
    model: nn.Module,
    graph: Graph,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    support: Support | None = None,
    reference: Reference | None = None,
    **rest: Any,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        part: which part of a causal model.
        model: the model to store, usually the average.
        graph: the causal graph that it was trained on.
        config: arguments of the model's constructor; tensors, numbers, strings, lists, dicts.
        settings: the settings of the training.
        support: what the training data said of the variables of `list_supported`.
        reference: what the part does on validation images.
        rest: further plain entries, such as the state that resumes a training.
    """
    content = {
        "format": FORMAT,
        "program": f"dscm {__version__}",
        "kind": part,
        "graph": graph.key,
        "config": dict(config),
        "settings": dict(settings),
        "model": model.state_dict(),
        **rest,
    }
    _write(path, content | _describe(support, reference))


def read(path: Path, part: Part) -> dict[str, Any]:
    """Read the content of a checkpoint.

    Args:
        path: the file.
        part: the part of a causal model that it must hold.

    Raises:
        InputError: the file is missing, damaged, not a checkpoint of this program, of another format or part, or holds
            anything but plain data (it is never executed).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        _check_bytes(path)
        content = load_plain(path)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not a checkpoint of dscm, or it holds code, which was not run") from error
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise InputError(f"{path}: truncated or not a checkpoint") from error
    if not isinstance(content, dict) or not {"format", "kind", "graph", "config", "model"} <= content.keys():
        raise InputError(f"{path}: not a checkpoint of dscm")
    if content["format"] != FORMAT:
        raise InputError(f"{path}: checkpoint format {content['format']!r}; this program reads format {FORMAT}")
    if content["kind"] != part:
        raise InputError(f"{path}: holds a model of kind '{content['kind']}'; '{part}' is needed here")
    for name in ("model", "raw"):
        if not _are_weights(content.get(name, {})):
            raise InputError(f"{path}: the weights do not fit the model that the checkpoint describes")
    return content


def load_plain(source: Path | BinaryIO, device: torch.device | str = "cpu") -> Any:
    """Read tensors and plain data of `torch.save`, without running code, or warnings of what is unusual.

    Args:
        source: a path or an open file.
        device: where the tensors go.

    Raises:
        Exception: of nearly any kind, if the data are damaged or hold code.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(source, map_location=device, weights_only=True)


def restore_image(path: Path, device: torch.device) -> Restored[ImageMechanism[Any]]:
    """Rebuild the mechanism of an image from its checkpoint.

    Args:
        path: the file.
        device: the device of the model.

    Raises:
        InputError: as `read`, or the weights do not fit the model that the checkpoint describes.
    """
    restored: Restored[ImageMechanism[Any]] = _restore(path, "image", device)
    if isinstance(restored.model, DiffusionMechanism):
        restored.model.null_trained = restored.settings.get("p_null") != 0
        restored.model.read = _find_reader(restored.model, restored.graph)
    if not restored.sampling:
        return restored
    model = restored.model
    try:  # whether it can be guided so is checked when it is
        model.sampling = change(model.sampling, restored.sampling, model.kind)
        return restored
    except InputError as error:
        raise InputError(f"{path}: damaged: its settings are not allowed") from error


def _find_reader(model: DiffusionMechanism, graph: Graph) -> Reader | None:
    """Return what measures those parents of an image that are numbers on a line; None if none of them is measured."""
    numbers = [v.name for v in model.scaling.variables if v.real and v.kind != "circular"]
    names = [name for name in numbers if name in graph.measured]
    return partial(observe, graph=graph, oracle=None, names=names) if names else None


def restore_attributes(path: Path, device: torch.device) -> Restored[LearnedAttributes]:
    """Rebuild the learned mechanisms of attributes; arguments and errors as `restore_image`."""
    return _restore(path, "attributes", device)


def restore_oracle(path: Path, device: torch.device) -> Restored[Oracle]:
    """Rebuild an oracle; arguments and errors as `restore_image`."""
    return _restore(path, "oracle", device)


def export(source: Path, part: Part, target: Path) -> None:
    """Write the averaged weights of the checkpoint ``source`` alone, in half precision, to ``target``."""
    content = read(source, part)
    half: dict[str, Tensor] = {k: v.half() if v.is_floating_point() else v for k, v in content["model"].items()}
    _write(target, {k: content[k] for k in EXPORTED if k in content} | {"model": half})


def add_support(path: Path, part: Part, support: Support) -> None:
    """Add to a checkpoint what its training data said of the variables of `list_supported`; all else stays."""
    _write(path, read(path, part) | _describe(support))


def add_reference(path: Path, part: Part, reference: Reference) -> None:
    """Add to a checkpoint what the part does on validation images; all else stays."""
    _write(path, read(path, part) | _describe(None, reference))


def add_sampling(path: Path, sampling: Mapping[str, Any]) -> None:
    """Add to the checkpoint of an image the settings that were chosen for its mechanism, plain data; all else stays."""
    _write(path, read(path, "image") | {"sampling": dict(sampling)})


def _describe(support: Support | None, reference: Reference | None = None) -> dict[str, Any]:
    """Return the entries of a checkpoint that hold the support and the reference, where there are any."""
    found = {"support": support, "reference": reference}
    return {name: value.state() for name, value in found.items() if value}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint through a file of Python's, whose errors say what is wrong, such as a full disk."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def _restore(path: Path, part: Part, device: torch.device) -> Restored[Any]:
    """Rebuild a part of a causal model, in float32 and evaluation mode."""
    content = read(path, part)
    try:
        graph = get_graph(content["graph"])
        model = build(part, graph, content["config"])
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in content["model"].items()})
    except InputError as error:
        raise InputError(f"{path}: {error.args[0]}") from error
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise InputError(f"{path}: the weights do not fit the model that the checkpoint describes") from error
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise InputError(f"{path}: holds weights that are not finite")
    model = model.to(device).eval().requires_grad_(False)
    settings, step, seconds = content.get("settings", {}), content.get("step"), content.get("seconds")
    if (
        not isinstance(settings, dict)
        or not isinstance(step, int | None)
        or not isinstance(seconds, int | float | None)
    ):
        raise InputError(f"{path}: damaged: what it says of its training is not readable")
    if not isinstance(sampling := content.get("sampling", {}), dict):
        raise InputError(f"{path}: damaged: its settings are not readable")
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    support = _restore_entry(path, content.get("support"), partial(Support.from_state, list_supported(part, graph)))
    reference = _restore_entry(path, content.get("reference"), Reference.from_state)
    described = content["config"], settings, step, seconds, sha256
    return Restored(model, Path(path), graph, *described, support, reference, sampling)


def _restore_entry(path: Path, state: Any, restore: Callable[[Any], EntryT]) -> EntryT | None:
    """Restore what a checkpoint says of its data; None where it says nothing."""
    if state is None:
        return None
    try:
        return restore(state)
    except Exception as error:  # damaged data make the reader raise nearly anything
        raise InputError(f"{path}: damaged: what it says of its training data is not readable") from error


def _are_weights(state: Any) -> bool:
    """Tell whether this is a state of dense tensors of real numbers."""
    return isinstance(state, dict) and all(
        isinstance(value, Tensor) and value.layout is torch.strided and not value.is_complex()
        for value in state.values()
    )


def _check_bytes(path: Path) -> None:
    """Raise ``ValueError`` if the bytes of a zip archive differ from its checksums, which torch does not check."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("damaged")
