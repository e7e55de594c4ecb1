"""Flags and settings of abduction and prediction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dscm.baselines.diffscm import ClassifierSampling
from dscm.baselines.hvae import LadderSampling
from dscm.cli.arguments import Parser
from dscm.diffusion.guidance import Interval, Intervals, Weights
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.machine import warn_of_emulation
from dscm.model import Model
from dscm.settings import setting


@dataclass(frozen=True)
class Compilation:
    """Whether networks are compiled."""

    compile: bool = setting(False, "Compile the network; half a minute for each size of batch, so for many images.")


SAMPLING = (Sampling, LadderSampling, ClassifierSampling, Compilation)  # classes whose fields a command line sets

ALIGNMENT = ("cta_lr", "cta_steps", "cta_optimizer")  # settings of dynamic abduction alone
INFERENCE = ("sample_code", "pixel_noise", "mix", "residuals")  # what abduction takes of a code, what a baseline keeps


def add_sampling(parser: Parser) -> None:
    """Add the common settings as flags, to a parser of `SAMPLING`, which takes the others by ``--set``."""
    names = ("guidance", "guidance_interval", "abduction", "steps")
    parser.add_fields(parser.add_argument_group("abduction and prediction"), Sampling, *names)


def configure(model: Model, settings: Mapping[str, Any]) -> Model:
    """Return a model with the settings of a command line; its network is compiled in place if they ask for that.

    Raises:
        InputError: the model has no such setting, or a value is not allowed.
    """
    changes = dict(settings)
    compiled = changes.pop("compile", False)
    check_alignment(changes, [changes.get("abduction", "")])
    if changes.get("precision") == "bfloat16":
        warn_of_emulation(model.device)
    configured = model.using(**changes)
    mechanism = configured.mechanism
    if compiled and not isinstance(mechanism, DiffusionMechanism):
        raise InputError(f"{option('compile')}: not a setting of {mechanism.kind}")
    if compiled and isinstance(mechanism, DiffusionMechanism):
        mechanism.unet.compile(dynamic=False)  # kernels for any size of batch are no faster than eager ones
    return configured


def note_guidance(
    model: Model, guidance: Iterable[Weights | float | str], interval: Interval | str | None = None
) -> list[str]:
    """Say of weights for groups of parents where the model was not trained on the conditions that they evaluate.

    Args:
        model: the model.
        guidance: the weights that are used.
        interval: the noise levels that are chosen; None where they are not.

    Returns:
        At most one line of either.
    """
    checkpoint = model.checkpoint
    if not isinstance(model.mechanism, DiffusionMechanism) or checkpoint.settings.get("null_apart"):
        return []
    apart = [str(weights) for weights in map(Weights.read, guidance) if weights.apart]
    named = interval if interval and Intervals.read(interval).groups else ""
    chosen = {"guidance": " ".join(apart), "guidance_interval": named}
    words = "was trained without null_apart, so conditions that are null in part only are new to it"
    return [f"{option(name)} {value}: {checkpoint.path.name} {words}" for name, value in chosen.items() if value]


def check_alignment(settings: Mapping[str, Any], abductions: Sequence[str]) -> None:
    """Refuse settings of dynamic abduction where there is none.

    Args:
        settings: those that were typed.
        abductions: those that are used.

    Raises:
        InputError: one of the settings has no effect.
    """
    for name in ALIGNMENT:
        if name in settings and "dynamic" not in abductions:
            raise InputError(f"{option(name)}: has no effect without {option('abduction')} dynamic")
