"""Sizes and settings of the baselines.

``tiny`` has about as many parameters as the semantic diffusion model's ``tiny``; ``paper`` as many as the HVAEs that
De Sousa Ribeiro et al. (2023) published for digits (1 M), and for brains of 64 and 192 pixels a side (55 and 17 M).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dscm.training.presets import Preset, choose_like, get_preset

_CHANNELS = {  # of each tiny baseline on each data set
    "vae": {"morphomnist": 40, "celebahq": 52, "embed": 48},
    "hvae": {"morphomnist": 32, "celebahq": 40, "embed": 40},
    "vci": {"morphomnist": 32, "celebahq": 40, "embed": 40},
    "diffscm": {"morphomnist": 56, "celebahq": 64, "embed": 64},
}
_TINY: Mapping[str, Mapping[str, Any]] = {
    "morphomnist": {"multipliers": [1, 2, 2], "patch": 2},
    "celebahq": {"multipliers": [1, 2, 2], "patch": 4},
    "embed": {"multipliers": [1, 2, 2], "patch": 8},
}
_PAPER: Mapping[str, Mapping[str, Any]] = {
    "morphomnist": {"channels": 32, "multipliers": [1, 2, 2], "patch": 1},
    "celebahq": {"channels": 128, "multipliers": [1, 2, 4, 4], "patch": 2},
    "embed": {"channels": 120, "multipliers": [1, 2, 2, 2], "patch": 4},
}
BASELINES = tuple(_CHANNELS)


def get_baseline_preset(mechanism: str, data_set: str, name: str, size: int) -> Preset:
    """Return the preset ``tiny`` or ``paper`` of a baseline.

    Args:
        mechanism: one of `BASELINES`.
        data_set, name, size: as `get_preset` takes them.
    """
    like = choose_like(data_set, size)
    tiny = {"channels": _CHANNELS[mechanism][like], **_TINY[like]}
    diffusion = get_preset("image", data_set, name, size)
    model = _model(mechanism, tiny if name == "tiny" else _PAPER[like], diffusion.model)
    training = Preset(
        model={"mechanism": mechanism, **model},
        batch=diffusion.batch,
        steps=30_000 if name == "tiny" else 200_000,
        learning_rate=1e-3,
        ema=0.999,
        warmup=200,
        cooling=3000,
        beta=1.0,
        beta_warmup=1000,
        flip=diffusion.flip,
    )
    return replace(training, focus=diffusion.focus) if mechanism == "diffscm" else training


def _model(mechanism: str, shape: Mapping[str, Any], diffusion: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a baseline's constructor: networks of some shape, and DiffSCM the UNet of diffusion."""
    if mechanism == "diffscm":
        own = {name: diffusion[name] for name in ("unet", "schedule") if name in diffusion}
        return {**own, "classifier": {**shape, "multipliers": [1, 2]}}
    if mechanism == "vci":
        return {**shape, "critic": dict(shape)}
    return dict(shape)
