"""Sizes and settings of the baselines: ``tiny`` has about as many parameters as the diffusion models' ``tiny``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dscm.presets import Preset, choose_like

_PATCH = {"morphomnist": 2, "celebahq": 4, "embed": 4}
_CHANNELS = {  # of each tiny baseline on each data set
    "vae": {"morphomnist": 40, "celebahq": 52, "embed": 40},
    "hvae": {"morphomnist": 32, "celebahq": 40, "embed": 32},
    "vci": {"morphomnist": 32, "celebahq": 40, "embed": 32},
    "diffscm": {"morphomnist": 24, "celebahq": 64, "embed": 64},
}
_WIDER = 2  # `paper` is so many times as wide and works on smaller patches
BASELINES = tuple(_CHANNELS)


def get_baseline_preset(mechanism: str, data_set: str, name: str, size: int) -> Preset:
    """Return the preset ``tiny`` or ``paper`` of a baseline.

    Args:
        mechanism: one of `BASELINES`.
        data_set, name, size: as `get_preset` takes them.
    """
    like = choose_like(data_set, size)
    paper = name == "paper"
    patch = _PATCH[like] // (2 if paper else 1)
    shape = {
        "channels": _CHANNELS[mechanism][like] * (_WIDER if paper else 1),
        "multipliers": [1, 2, 2, 2] if like == "embed" else [1, 2, 2],  # down to 6 or 8 pixels a side
        "patch": patch,
    }
    training = Preset(
        model={"mechanism": mechanism, **_model(mechanism, shape, paper)},
        batch={"morphomnist": 96, "celebahq": 64, "embed": 32}[like],
        steps=200_000 if paper else 30_000,
        learning_rate=1e-3 if not paper else 3e-4,
        ema=0.9999 if paper else 0.999,
        warmup=200,
        cooling=0 if paper else 3000,
        beta=1.0,
        beta_warmup=1000,
        flip=data_set == "celebahq",
    )
    return replace(training, focus=0.0 if paper else 0.5) if mechanism == "diffscm" else training


def _model(mechanism: str, shape: Mapping[str, Any], paper: bool) -> dict[str, Any]:
    """Return the arguments of a baseline's constructor."""
    if mechanism == "diffscm":
        unet = {"channels": 64 if paper else 32, "multipliers": [1, 2, 2], "blocks": 1, "patch": shape["patch"]}
        return {"unet": unet, "classifier": {**shape, "multipliers": [1, 2]}}
    if mechanism == "vci":
        return {**shape, "critic": dict(shape)}
    return dict(shape)
