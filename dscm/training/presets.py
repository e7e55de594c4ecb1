"""Architectures and hyperparameters by name: ``tiny`` for two CPU cores, ``small`` for one GPU, ``paper`` as published.

A ``small`` training computes 8 PFLOP, ten times a ``tiny`` one: half an hour to an hour of a fourth of an H100, four of
which reached 12 TFLOP/s together, an hour of a GPU that reaches 2, or a night of a CPU that reaches 0.4.

A baseline's ``tiny`` and ``small`` have about as many parameters as the semantic diffusion model's; its ``paper`` about
as many as the HVAEs that De Sousa Ribeiro et al. (2023) published for digits (1 M) and for brains of 64 and 192 pixels
(55 M, 17 M).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dscm.causal.graph import Graph
from dscm.checkpoint import Part
from dscm.oracle import needs_strokes
from dscm.training.schedule import Hyperparameters

PresetName = Literal["tiny", "small", "paper"]
MechanismName = Literal["spatial", "semantic", "vae", "hvae", "hvae-mediator", "vci", "diffscm"]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """An architecture and its training.

    Args:
        model: arguments of the model's constructor, as `dscm.checkpoint.build` takes them.
        steps: the usual length of the training.
        training: the hyperparameters.
    """

    model: Config
    steps: int
    training: Hyperparameters


def get_preset(part: Part, graph: Graph, name: PresetName = "tiny", mechanism: MechanismName = "semantic") -> Preset:
    """Return the preset of a part of a causal model.

    Args:
        part: which.
        graph: the causal graph; of a user's own data set its image size decides.
        name: the name of the preset.
        mechanism: the mechanism of the image.
    """
    like = _find_like(graph)
    if part == "attributes":
        return _ATTRIBUTES
    if part == "oracle":
        preset = _ORACLES[like][name]
    elif mechanism in BASELINES:
        preset = _make_baseline(mechanism, like, name)
    else:
        preset = _DIFFUSION[like][name]
    model = dict(preset.model)
    if not needs_strokes(graph):
        model.pop("strokes", None)
    if part == "image":
        model["size"] = graph.image_size
    if part == "image" and mechanism == "semantic":
        model |= _CODES[like][name]
    if graph.data_set in (like, *_SAME):
        return replace(preset, model=model)
    # Whether an image of a user is as plausible mirrored or moved is unknown.
    return replace(preset, model=model, training=replace(preset.training, flip=False, move=0))


# Diffusion mechanisms. β weighs nats against errors summed over pixels: more pixels, more β. ``paper`` is Table 4.
_TINY = Hyperparameters(
    batch=96,
    learning_rate=2e-3,
    warmup=200,
    cooling=1500,
    ema=0.999,
    beta=0.3,
    beta_warmup=1000,
    focus=0.5,
    summed=True,
    static=True,
)
_SMALL = replace(_TINY, cooling=2000)
_PAPER = Hyperparameters(batch=128, learning_rate=1e-4, ema=0.9999, beta=0.002, summed=True, static=True)

_DIFFUSION: Mapping[str, Mapping[str, Preset]] = {
    "morphomnist": {
        # One or two hours of two CPU cores: a fourth of the pixels (patch 2), v-prediction.
        "tiny": Preset(
            {"prediction": "v", "unet": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch": 2}},
            steps=30_000,
            training=_TINY,
        ),
        # 205 epochs of 50,000 digits; every pixel is seen.
        "small": Preset(
            {"prediction": "v", "unet": {"channels": 48, "multipliers": [0.5, 1, 2], "blocks": 1}},
            steps=20_000,
            training=replace(_SMALL, batch=512, beta=0.1),
        ),
        # 1,000 epochs of 50,000 digits.
        "paper": Preset(
            {"prediction": "eps", "unet": {"channels": 64, "multipliers": [1, 4, 8], "blocks": 1}},
            steps=390_625,
            training=_PAPER,
        ),
    },
    "celebahq": {
        "tiny": Preset(
            {
                "prediction": "v",
                "unet": {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "patch": 4, "bypass": True},
            },
            steps=30_000,
            training=replace(_TINY, batch=64, beta=4.0, flip=True),
        ),
        # 425 epochs of 24,000 faces; few channels at the fine level, where most of the time is spent.
        "small": Preset(
            {
                "prediction": "v",
                "unet": {"channels": 40, "multipliers": [0.5, 1, 2, 2], "blocks": 1, "patch": 2, "bypass": True},
            },
            steps=40_000,
            training=replace(_SMALL, batch=256, beta=4.0, flip=True),
        ),
        # 6,000 epochs of 24,000 faces.
        "paper": Preset(
            {
                "prediction": "eps",
                "unet": {"channels": 64, "multipliers": [1, 2, 4, 8], "blocks": 2, "attention": [2], "dropout": 0.1},
            },
            steps=1_125_000,
            training=replace(_PAPER, flip=True),
        ),
    },
    "embed": {
        "tiny": Preset(
            {
                "prediction": "v",
                "schedule": "cosine",
                "unet": {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "patch": 8, "bypass": True},
            },
            steps=30_000,
            training=replace(_TINY, batch=32, beta=2.0),
        ),
        # 155 epochs of 13,207 images.
        "small": Preset(
            {
                "prediction": "v",
                "schedule": "cosine",
                "unet": {"channels": 32, "multipliers": [0.5, 1, 2, 2], "blocks": 1, "patch": 2, "bypass": True},
            },
            steps=64_000,
            training=replace(_SMALL, batch=32, beta=2.0),
        ),
        # 1,000 epochs of 13,207 images.
        "paper": Preset(
            {
                "prediction": "eps",
                "schedule": "cosine",
                "unet": {"channels": 96, "multipliers": [1, 1, 2, 2, 4, 4], "blocks": 2, "dropout": 0.1},
            },
            steps=412_000,
            training=replace(_PAPER, batch=32),
        ),
    },
}

# What semantic mechanisms have besides.
_CODES: Mapping[str, Mapping[str, Config]] = {
    "morphomnist": {
        "tiny": {
            "code_dim": 8,
            "prior": "conditional",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 2},
        },
        "small": {
            "code_dim": 16,
            "prior": "flow",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 2},
        },
        "paper": {
            "code_dim": 8,
            "prior": "standard",
            "encoder": {"channels": 64, "multipliers": [1, 2, 4, 8], "dropout": 0.1},
        },
    },
    "celebahq": {
        "tiny": {
            "code_dim": 32,
            "prior": "conditional",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 4},
        },
        "small": {
            "code_dim": 32,
            "prior": "flow",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 4},
        },
        "paper": {
            "code_dim": 32,
            "prior": "standard",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4, 8, 8], "dropout": 0.1},
        },
    },
    "embed": {
        "tiny": {
            "code_dim": 64,
            "prior": "conditional",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 8},
        },
        "small": {
            "code_dim": 64,
            "prior": "conditional",
            "encoder": {"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.1, "patch": 8},
        },
        "paper": {
            "code_dim": 512,
            "prior": "standard",
            "encoder": {"channels": 96, "multipliers": [1, 1, 2, 2, 4, 4, 4], "dropout": 0.1},
        },
    },
}

_ATTRIBUTES = Preset(
    {"hidden": 32},
    steps=2000,
    training=Hyperparameters(batch=1024, learning_rate=1e-2, warmup=50, cooling=200, ema=0.99),
)


def _make_oracle(model: Config, batch: int = 128, flip: bool = False, move: int = 0) -> Mapping[str, Preset]:
    """Make the presets of an oracle: ``small`` and ``paper`` are twice as wide, trained for 2 and 5 times as long."""
    training = Hyperparameters(
        batch=batch, learning_rate=1e-3, warmup=100, ema=0.998, flip=flip, move=move, static=True
    )
    wide = {**model, "channels": 2 * model["channels"]}
    return {
        "tiny": Preset(model, 4000, training),
        "small": Preset(wide, 8000, training),
        "paper": Preset(wide, 20_000, replace(training, ema=0.999)),
    }


_ORACLES: Mapping[str, Mapping[str, Preset]] = {
    "morphomnist": _make_oracle({"channels": 32, "strokes": True}),
    "celebahq": _make_oracle({"channels": 32, "multipliers": [1, 2, 4], "dropout": 0.3}, flip=True, move=4),
    "embed": _make_oracle({"channels": 16, "multipliers": [1, 2, 4, 8], "dropout": 0.3}, batch=64),
}

BASELINES = ("vae", "hvae", "hvae-mediator", "vci", "diffscm")
_CHANNELS: Mapping[str, Mapping[str, Mapping[str, int]]] = {  # of each baseline on each data set
    "tiny": {
        "vae": {"morphomnist": 40, "celebahq": 52, "embed": 48},
        "hvae": {"morphomnist": 32, "celebahq": 40, "embed": 40},
        "hvae-mediator": {"morphomnist": 32, "celebahq": 40, "embed": 40},
        "vci": {"morphomnist": 32, "celebahq": 40, "embed": 40},
        "diffscm": {"morphomnist": 56, "celebahq": 64, "embed": 64},
    },
    "small": {
        "vae": {"morphomnist": 52, "celebahq": 56, "embed": 28},
        "hvae": {"morphomnist": 44, "celebahq": 52, "embed": 40},
        "hvae-mediator": {"morphomnist": 44, "celebahq": 48, "embed": 36},
        "vci": {"morphomnist": 40, "celebahq": 44, "embed": 24},
        "diffscm": {"morphomnist": 72, "celebahq": 88, "embed": 72},
    },
}
_OMEGA = [10.0, 0.02, 0.01]  # of VCI, as its code has them for Morpho-MNIST
_PYRAMIDS: Mapping[str, Mapping[str, Config]] = {
    "tiny": {
        "morphomnist": {"multipliers": [1, 2, 2], "patch": 2},
        "celebahq": {"multipliers": [1, 2, 2], "patch": 4},
        "embed": {"multipliers": [1, 2, 2], "patch": 8},
    },
    "small": {
        "morphomnist": {"multipliers": [1, 2, 2], "patch": 1},
        "celebahq": {"multipliers": [1, 2, 2], "patch": 2},
        "embed": {"multipliers": [1, 2, 2], "patch": 4},
    },
    "paper": {
        "morphomnist": {"channels": 32, "multipliers": [1, 2, 2], "patch": 1},
        "celebahq": {"channels": 128, "multipliers": [1, 2, 4, 4], "patch": 2},
        "embed": {"channels": 120, "multipliers": [1, 2, 2, 2], "patch": 4},
    },
}


def _make_baseline(mechanism: str, like: str, name: str) -> Preset:
    """Make a preset of a baseline on a built-in data set; DiffSCM has the UNet of the diffusion mechanism."""
    diffusion, pyramid = _DIFFUSION[like][name], dict(_PYRAMIDS[name][like])
    if name in _CHANNELS:
        pyramid["channels"] = _CHANNELS[name][mechanism][like]
    if mechanism == "diffscm":
        shared = {key: diffusion.model[key] for key in ("unet", "schedule") if key in diffusion.model}
        model = {**shared, "classifier": {**pyramid, "multipliers": [1, 2]}}
    else:
        model = {**pyramid, "critic": pyramid, "omega": _OMEGA} if mechanism == "vci" else pyramid
    training = Hyperparameters(
        batch=diffusion.training.batch,
        learning_rate=1e-3,
        warmup=200,
        cooling=3000,
        ema=0.999,
        beta=0.0 if mechanism in ("vci", "diffscm") else 1.0,
        beta_warmup=1000,
        focus=diffusion.training.focus if mechanism == "diffscm" else 0.0,
        flip=diffusion.training.flip,
        summed=True,
        static=True,
    )
    return Preset({"mechanism": mechanism, **model}, 200_000 if name == "paper" else diffusion.steps, training)


_SAME: Mapping[str, str] = {"celeba": "celebahq"}  # data sets of the same kind of images as another one
# The built-in data set whose presets suit images of a user's own, by their greatest height and width in pixels.
_BY_SIZE = (("morphomnist", 40), ("celebahq", 96), ("embed", 1 << 20))


def _find_like(graph: Graph) -> str:
    """Return the built-in data set whose presets suit a graph."""
    known = _SAME.get(graph.data_set, graph.data_set)
    if known in _DIFFUSION:
        return known
    return next(known for known, largest in _BY_SIZE if graph.image_size <= largest)


def largest_patch(config: Any) -> int:
    """Return the largest patch of the networks of a model."""
    if not isinstance(config, Mapping):
        return 1
    return max([config.get("patch", 1), *map(largest_patch, config.values())])


def with_patch(config: Mapping[str, Any], patch: int) -> dict[str, Any]:
    """Return the config of a model whose networks, which are what has ``channels``, all see patches of one size."""
    changed = {key: with_patch(value, patch) if isinstance(value, Mapping) else value for key, value in config.items()}
    return changed | {"patch": patch} if "channels" in config else changed
