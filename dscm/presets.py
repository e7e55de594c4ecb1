"""Sizes and training settings by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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


IMAGE_PRESETS: Mapping[str, Preset] = {
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
        steps=30_000,
        learning_rate=2e-3,
        warmup=200,
        cooling=1500,
        ema=0.999,
        beta=0.3,
        beta_warmup=1000,
        focus=0.5,
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
        learning_rate=1e-4,
        ema=0.9999,
        beta=0.002,
    ),
}

ORACLE_PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(model={"channels": 32}, batch=128, steps=4000, learning_rate=1e-3, warmup=100, ema=0.998),
    "paper": Preset(model={"channels": 64}, batch=128, steps=20_000, learning_rate=1e-3, warmup=100, ema=0.999),
}
