"""Sizes and training settings by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Everything about a training run that is not the data.

    Args:
        model: arguments of the model's constructor.
        semantic: further ones of the semantic mechanism.
        batch: images in one step, over all processes.
        steps: how long to train unless told otherwise.
        learning_rate: of Adam, reached after ``warmup`` steps.
        warmup: steps over which the learning rate rises from zero.
        cooling: steps after which it falls as 1/√step (Karras et al. 2024); 0 keeps it.
        ema: decay of the averaged weights.
        beta: weight of the KL term, reached after ``beta_warmup`` steps.
        beta_warmup: steps over which β rises from zero.
        focus: share of the timesteps drawn where detail is decided, as `sample_timesteps`.
        flip: mirror half of the images while training.
    """

    model: Mapping[str, Any]
    batch: int
    steps: int
    learning_rate: float
    ema: float
    semantic: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0
    cooling: int = 0
    beta: float = 0.0
    beta_warmup: int = 0
    focus: float = 0.0
    flip: bool = False


# How the image's mechanism is trained, on every data set; `paper` is its Table 4. β weighs nats against errors summed
# over pixels: more pixels, more β.
_TINY: Mapping[str, Any] = {
    "steps": 30_000,
    "learning_rate": 2e-3,
    "warmup": 200,
    "cooling": 1500,
    "ema": 0.999,
    "beta": 0.3,
    "beta_warmup": 1000,
    "focus": 0.5,
}
_PAPER: Mapping[str, Any] = {"learning_rate": 1e-4, "ema": 0.9999, "beta": 0.002}

_DIGITS = {
    # Trains on two CPU cores in an hour or two: a fourth of the pixels (patch 2), v-prediction.
    "tiny": Preset(
        model={
            "size": 28,
            "prediction": "v",
            "unet": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch": 2},
        },
        semantic={
            "code_dim": 8,
            "prior": "conditional",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 2},
        },
        batch=96,
        **_TINY,
    ),
    # The published sizes and training (paper, Table 4): 1,000 epochs of 60,000 digits.
    "paper": Preset(
        model={
            "size": 28,
            "prediction": "eps",
            "unet": {"channels": 64, "multipliers": [1, 4, 8], "blocks": 1},
        },
        semantic={
            "code_dim": 8,
            "prior": "standard",
            "encoder": {"channels": 64, "multipliers": [1, 2, 4, 8], "dropout": 0.1},
        },
        batch=128,
        steps=468_750,
        **_PAPER,
    ),
}

_FACES = {
    "tiny": Preset(
        model={
            "size": 64,
            "prediction": "v",
            "unet": {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "patch": 4, "bypass": True},
        },
        semantic={
            "code_dim": 32,
            "prior": "conditional",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 4},
        },
        batch=64,
        **_TINY | {"beta": 4.0},
        flip=True,
    ),
    # 6,000 epochs of 24,000 faces.
    "paper": Preset(
        model={
            "size": 64,
            "prediction": "eps",
            "unet": {"channels": 64, "multipliers": [1, 2, 4, 8], "blocks": 2, "attention": [2], "dropout": 0.1},
        },
        semantic={
            "code_dim": 32,
            "prior": "standard",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4, 8, 8], "dropout": 0.1},
        },
        batch=128,
        steps=1_125_000,
        **_PAPER,
        flip=True,
    ),
}

_MAMMOGRAMS = {
    "tiny": Preset(
        model={
            "size": 192,
            "prediction": "v",
            "schedule": "cosine",
            "unet": {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "patch": 8, "bypass": True},
        },
        semantic={
            "code_dim": 64,
            "prior": "conditional",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 8},
        },
        batch=32,
        **_TINY | {"beta": 2.0},
    ),
    # 1,000 epochs of 13,207 images.
    "paper": Preset(
        model={
            "size": 192,
            "prediction": "eps",
            "schedule": "cosine",
            "unet": {"channels": 96, "multipliers": [1, 1, 2, 2, 4, 4], "blocks": 2, "dropout": 0.1},
        },
        semantic={
            "code_dim": 512,
            "prior": "standard",
            "encoder": {"channels": 96, "multipliers": [1, 1, 2, 2, 4, 4, 4], "dropout": 0.1},
        },
        batch=32,
        steps=412_000,
        **_PAPER,
    ),
}

_ATTRIBUTES = Preset(model={"hidden": 32}, batch=1024, steps=2000, learning_rate=1e-2, warmup=50, cooling=200, ema=0.99)

_DIGIT_ORACLE = {"channels": 32, "strokes": True}
_FACE_ORACLE = {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.3}
_MARKER_ORACLE = {"channels": 16, "multipliers": [1, 2, 4, 8], "dropout": 0.3}


def _oracle(model: Mapping[str, Any], steps: int, batch: int = 128) -> Mapping[str, Preset]:
    """Make the presets of an oracle; ``paper`` is twice as wide and trained five times as long."""
    tiny = Preset(model, batch, steps, learning_rate=1e-3, warmup=100, ema=0.998)
    wide = Preset({**model, "channels": 2 * model["channels"]}, batch, 5 * steps, 1e-3, warmup=100, ema=0.999)
    return {"tiny": tiny, "paper": wide}


# By what is trained, the data set, and the size.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Preset]]] = {
    "image": {"morphomnist": _DIGITS, "celebahq": _FACES, "embed": _MAMMOGRAMS},
    "attributes": dict.fromkeys(("morphomnist", "celebahq", "embed"), {"tiny": _ATTRIBUTES, "paper": _ATTRIBUTES}),
    "oracle": {
        "morphomnist": _oracle(_DIGIT_ORACLE, 4000),
        "celebahq": _oracle(_FACE_ORACLE, 4000),
        "embed": _oracle(_MARKER_ORACLE, 4000, batch=64),
    },
}


# For a data set of a user's own: whose presets suit images of up to so many pixels a side.
_BY_SIZE = (("morphomnist", 40), ("celebahq", 96), ("embed", 1 << 20))


def get_preset(part: str, data_set: str, name: str, size: int) -> Preset:
    """Return the preset ``tiny`` or ``paper`` for a part (image, attributes or oracle) of the model of a data set.

    Args:
        part, data_set, name: what is trained, on what, and the preset's name.
        size: of the images in pixels, which decides for a data set of a user's own.
    """
    preset = PRESETS[part][choose_like(data_set, size)][name]
    if data_set in PRESETS[part]:
        return preset
    plain = {key: value for key, value in preset.model.items() if key != "strokes"}
    return replace(preset, model=plain, flip=False)  # nobody knows whether a mirror image is as good


def choose_like(data_set: str, size: int) -> str:
    """Return the built-in data set whose presets suit a data set with images of ``size`` pixels a side."""
    if data_set in PRESETS["image"]:
        return data_set
    return next(known for known, largest in _BY_SIZE if size <= largest)
