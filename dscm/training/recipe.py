"""The settings of a training: what a user can choose, and what the presets make of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from dscm import settings
from dscm.causal.graph import Graph
from dscm.checkpoint import Part
from dscm.data.framing import Fit
from dscm.diffusion.levels import CANDIDATES, IMAGES, STEPS
from dscm.diffusion.process import size_shift
from dscm.errors import InputError, option
from dscm.machine import warn_of_emulation
from dscm.oracle import needs_strokes
from dscm.settings import setting
from dscm.training.presets import BASELINES, MechanismName, Preset, PresetName, get_preset, largest_patch, with_patch
from dscm.training.schedule import Hyperparameters

OWNERS: Mapping[str, tuple[str, ...]] = {  # settings of some mechanisms of the image, or of another part, alone
    "prior": ("semantic",),
    "likelihood": ("vae", "hvae", "hvae-mediator", "vci"),
    "fine_tune": ("vae", "hvae", "hvae-mediator", "semantic", "spatial", "oracle"),
    "only_prior": ("semantic",),
    "gamma": ("semantic",),
    "kappa": ("semantic",),
    "obey": ("spatial", "semantic"),
    "keep": ("semantic",),
    "every": ("oracle",),
    "p_null": ("spatial", "semantic"),
    "null_apart": ("spatial", "semantic"),
    "pairs": ("spatial", "semantic"),
    "window": ("spatial",),
    "shift": ("spatial", "semantic", "diffscm"),
    "levels": ("spatial", "semantic"),
    "beta": ("semantic", "vae", "hvae", "hvae-mediator"),
    "patch": ("spatial", "semantic", *BASELINES),
}
ARCHITECTURE = ("patch", "likelihood", "every")  # settings that a trained mechanism has already
ADDED = (  # new since: kept where on
    *("null_apart", "only_prior", "gamma", "kappa", "pairs", "obey", "every", "independent", "keep", "window"),
)
RESUMABLE = ("steps", "minutes", "save_every", "sample_every", "oracle", "attributes", "trust", "levels")  # may change


@dataclass(frozen=True)
class Recipe:
    """Everything that a user can choose for a training; None leaves a choice to the preset.

    Raises:
        InputError: a value is not allowed, or a setting does not belong to what is trained.
    """

    part: Part = setting("image", "Part of the causal model to train.")
    mechanism: MechanismName = setting("semantic", "Mechanism of the image.")
    preset: PresetName = setting(
        "tiny", "Architecture and hyperparameters: tiny for a CPU, small for an hour of a GPU, paper as published."
    )
    size: int | None = setting(None, "Height and width of the images in pixels. Default: the graph's.", low=8)
    patch: int | None = setting(
        None,
        "Side of the pixel blocks that the networks see: smaller is finer, and slower. Default: the preset's.",
        low=1,
    )
    steps: int | None = setting(None, "Train until this step. Default: the preset's, unless minutes are set.", low=1)
    minutes: float | None = setting(None, "Train for this long, over all resumptions.", above=0)
    batch: int | None = setting(None, "Images in a step, over all processes. Default: the preset's.", low=1)
    precision: Literal["float32", "bfloat16"] | None = setting(
        None, "Of the networks in training. Default: bfloat16 on a GPU, float32 on a CPU."
    )
    fine_tune: Path | str | None = setting(
        None,
        "Checkpoint: of a VAE or HVAE, tune it until an oracle detects interventions in its counterfactuals; of a "
        "diffusion mechanism or an oracle, train it further.",
    )
    only_prior: bool = setting(
        False, "Of a semantic mechanism to fine-tune: fit its prior, a flow, to its codes, and leave all else."
    )
    seed: int = setting(0, "Seed of everything random.", low=0, high=2**62)
    p_null: float = setting(
        0.1, "Probability p_∅ of dropping the condition; the paper's choice is 0.1.", low=0, high=0.99
    )
    null_apart: bool = setting(
        False, "Also drop the code, and each parent, independently: for guidance with a weight for each group."
    )
    beta: float | None = setting(None, "Weight β of the KL term. Default: the preset's.", low=0)
    prior: Literal["standard", "conditional", "flow"] | None = setting(
        None,
        "p(z), the paper's, or p(z | parents): Gaussian, or a flow, which leaves less of them. Default: the preset's.",
    )
    gamma: float = setting(
        0.0, "Weight γ that holds codes to N(0, I) given their parents, so that a flow prior has little to do.", low=0
    )
    kappa: float = setting(
        0.0, "Weight κ that holds a code to what is read again from counterfactuals of a few steps.", low=0
    )
    every: bool = setting(
        False,
        "Of an oracle: predict measured attributes, too, so that a mechanism can be trained to obey them; whoever "
        "judges measures.",
    )
    obey: float = setting(
        0.0,
        "Of a diffusion mechanism to fine-tune: weight η of what an oracle says of counterfactuals or, with pairs, of "
        "the distance of predictions to both images.",
        low=0,
    )
    keep: float = setting(
        0.0,
        "Of a semantic mechanism to fine-tune: weight η of how badly the images that it predicts under other parents "
        "show the codes that they were made with.",
        low=0,
    )
    likelihood: Literal["gaussian", "discretised"] | None = setting(
        None, "Of a pixel under an autoencoder. Default: discretised."
    )
    learning_rate: float | None = setting(None, "Peak learning rate of Adam. Default: the preset's.", above=0)
    balance: str | None = setting(
        None,
        "Of the image: binary parents, with commas between, whose rare values are drawn more often, up to three in ten "
        "images, or ten times as often.",
    )
    independent: bool = setting(
        False,
        "Of the image or an oracle: draw images so that the classes that an intervention sets are independent of the "
        "others, and none is read off another.",
    )
    pairs: bool = setting(
        False,
        "Let half of a batch show what the other half shows, under other parents and the same noise, so that what the "
        "parents make stands out. The data say in a column group which images show the same thing.",
    )
    window: int | None = setting(
        None, "With pairs: see windows of so many pixels alone, where images of a group differ. Default: all.", low=8
    )
    shift: float | None = setting(
        None,
        "Factor of the noise levels in training. Default: size/64, at least 1; of paper, 1.",
        low=1,
    )
    save_every: int = setting(500, "Steps between checkpoints.", low=1)
    sample_every: int = setting(2000, "Steps between grids of samples.", low=1)
    oracle: Path | str | None = setting(
        None, "Checkpoint of the oracle for fine-tuning. Default: the run's, or the bundled one."
    )
    attributes: Path | str | None = setting(
        None, "Checkpoint of the learned attributes for fine-tuning. Default: the run's, or the bundled one."
    )
    trust: int = setting(
        1024,
        "Validation images, at most, that later answers are compared with; 0 leaves the checks without them.",
        low=0,
    )
    levels: int = setting(
        STEPS,
        "Steps each way whose noise levels are fitted to the model in the end, which it then visits unless others are "
        f"chosen; to {IMAGES} images for validation, if there are as many. 0 fits none.",
        low=0,
        high=CANDIDATES,
    )
    skip_missing: bool = setting(
        False,
        "Leave out any number of absent or broken images instead of at most 1%; of your own data, images without a row "
        "in attributes.csv, and rows without an image or a value.",
    )
    fit: Fit | None = setting(
        None,
        "How images become squares: by changing their aspect, cutting them, or adding black. Default: stretch; of "
        "celeba, crop.",
    )
    clean_background: bool = setting(False, "Of EMBED: black out everything but the breast.")
    mixture: bool = setting(
        True,
        "Of Morpho-MNIST: let a fifth each of thickness, slant and intensity be uniform, for support, beside a fifth "
        "of the slants as written and half of the hues; off is the paper's, the last two alone.",
    )

    def __post_init__(self) -> None:
        """Check each setting, and that it belongs to what is trained."""
        settings.check(self)
        for name in ("oracle", "attributes"):
            if getattr(self, name) is not None and (self.fine_tune is None or self.part != "image"):
                words = f"has no effect without {option('fine_tune')} of a mechanism of the image"
                raise InputError(f"{option(name)} {getattr(self, name)}: {words}")
        if self.part != "image" and self.sample_every != type(self).sample_every:
            raise InputError(
                f"{option('sample_every')} {self.sample_every}: {option('part')} {self.part} has no samples"
            )
        if self.balance is not None and self.part != "image":
            raise InputError(
                f"{option('balance')} {self.balance}: changes p(parents), on which what {option('part')} {self.part} "
                f"learns depends; p(image | parents) alone stays the same: a setting of {option('part')} image"
            )
        if self.independent and self.part == "attributes":
            words = f"has no effect on {option('part')} attributes, whose dependences are what it learns"
            raise InputError(f"{option('independent')} on: {words}")
        for name, owners in OWNERS.items():
            value = getattr(self, name)
            if value == getattr(type(self), name):  # the default
                continue
            chosen = option(name) + ("" if value is True else f" {value}")
            if self.trained not in owners:
                trained = self.mechanism if self.part == "image" else f"{option('part')} {self.part}"
                raise InputError(f"{chosen}: not known to {trained}; a setting of {', '.join(owners)}")
            if self.fine_tune and name in ARCHITECTURE:
                raise InputError(f"{chosen}: is settled by the model of {option('fine_tune')}; leave it out")
        if self.gamma and self.prior != "flow":
            raise InputError(f"{option('gamma')} {self.gamma}: needs {option('prior')} flow")
        if self.window and not self.pairs:
            raise InputError(f"{option('window')} {self.window}: needs {option('pairs')} on")
        for name, weight in (("obey", self.obey), ("keep", self.keep)):
            if weight and (self.fine_tune is None or self.only_prior):
                raise InputError(f"{option(name)} {weight}: needs {option('fine_tune')}, of more than the prior")
        if self.only_prior and (self.fine_tune is None or self.prior != "flow"):
            raise InputError(f"{option('only_prior')}: needs {option('fine_tune')}, and {option('prior')} flow")

    @property
    def trained(self) -> str:
        """Name what is trained: the mechanism of the image, or another part."""
        return self.mechanism if self.part == "image" else self.part

    @property
    def judged(self) -> bool:
        """Tell whether an oracle judges counterfactuals in the training."""
        tuned = self.fine_tune is not None and self.part == "image"
        return tuned and ((self.obey > 0 and not self.pairs) or not self.tunes_diffusion)

    @property
    def tunes_diffusion(self) -> bool:
        """Tell whether a trained diffusion mechanism is trained further."""
        return self.fine_tune is not None and self.trained in ("spatial", "semantic")

    def sees_strokes(self, graph: Graph) -> bool:
        """Tell whether a new oracle sees strokes alone, which do not tell what is measured on digits."""
        return self.part == "oracle" and needs_strokes(graph) and not self.every and self.fine_tune is None

    def choose_preset(self, graph: Graph, part: Part | None = None) -> Preset:
        """Return the preset of what is trained, or of another part of the same model, with the chosen patches."""
        part = part or self.part
        preset = get_preset(part, graph, self.preset, self.mechanism)
        return replace(preset, model=with_patch(preset.model, self.patch)) if self.patch else preset

    def image_size(self, graph: Graph) -> int:
        """Return the height and width of the images in pixels.

        Raises:
            InputError: they are no multiple of the patches of the image's mechanism.
        """
        size = self.size or graph.image_size
        patch = largest_patch(self.choose_preset(graph, "image").model)
        if size % patch:
            raise InputError(f"{option('size')} {size}: must be a multiple of {patch}, the side of the model's patches")
        return size

    def model_config(self, graph: Graph) -> dict[str, Any]:
        """Return the arguments of the model's constructor."""
        config = dict(self.choose_preset(graph).model)
        if self.part == "image":
            config["size"] = self.image_size(graph)
        if not self.sees_strokes(graph):
            config.pop("strokes", None)
        return config | {name: getattr(self, name) for name in ("prior", "likelihood", "every") if getattr(self, name)}

    def hyperparameters(self, graph: Graph, device: torch.device) -> Hyperparameters:
        """Return the hyperparameters of a training on a device; warn of a precision that the CPU only emulates."""
        training = self.choose_preset(graph).training
        changes: dict[str, Any] = {"p_null": self.p_null, "apart": self.null_apart, "seed": self.seed}
        changes |= {"gamma": self.gamma, "kappa": self.kappa, "balance": self.balanced(graph), "pairs": self.pairs}
        changes |= {"shift": self.find_shift(graph), "window": self.find_window(graph)}
        changes["independent"] = tuple(graph.interventions.values()) if self.independent else ()
        for name in ("independent", "obey", "keep"):
            if getattr(self, name) and not graph.interventions:
                raise InputError(f"{option(name)}: the image of {graph.name} has no parents to intervene on")
        for name in ("batch", "learning_rate", "beta"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        if self.fine_tune:  # its interventions wait for the device
            changes |= {"beta_warmup": 0, "static": False}
        precision = self.precision or ("bfloat16" if device.type == "cuda" else "float32")
        if self.part == "attributes":
            precision = "float32"
        if precision == "bfloat16":
            warn_of_emulation(device)
        return replace(training, precision=precision, **changes)

    def find_shift(self, graph: Graph) -> float:
        """Return the factor of the noise levels: as chosen, or as the size has it where the preset dwells on some."""
        focused = self.choose_preset(graph).training.focus > 0
        return self.shift or (size_shift(self.image_size(graph)) if focused else 1.0)

    def find_window(self, graph: Graph) -> int | None:
        """Return the side of the windows.

        Raises:
            InputError: the networks cannot see windows of that size.
        """
        size, patch = self.image_size(graph), largest_patch(self.choose_preset(graph, "image").model)
        if self.window and (self.window > size or self.window % patch):
            raise InputError(f"{option('window')} {self.window}: must be a multiple of {patch}, and at most {size}")
        return self.window

    def follow(self, graph: Graph, settings: Mapping[str, Any]) -> "Recipe":
        """Return this recipe with the noise levels of a training to resume, of which older ones were not shifted.

        Args:
            graph: the causal graph.
            settings: what the checkpoint kept.
        """
        kept = settings.get("shift") or 1.0
        return replace(self, shift=kept) if self.shift is None and kept != self.find_shift(graph) else self

    def balanced(self, graph: Graph) -> tuple[str, ...]:
        """Return the attributes whose rare values are drawn more often.

        Raises:
            InputError: one is no binary parent of the image, or is named twice.
        """
        names = () if self.balance is None else tuple(name.strip() for name in self.balance.split(","))
        allowed = [v.name for v in graph.attributes if v.kind == "binary" and v.name in graph.image_parents]
        for name in names:
            if name not in allowed or names.count(name) > 1:
                known = ", ".join(allowed) or "of which there are none"
                raise InputError(
                    f"{option('balance')} {self.balance}: must name binary parents of the image, {known}, once each"
                )
        return names

    def last_step(self, graph: Graph) -> int | None:
        """Return the step at which the training ends; None where minutes alone end it."""
        return self.steps or (self.choose_preset(graph).steps if self.minutes is None else None)

    def record(self, graph: Graph, world: int) -> dict[str, Any]:
        """Return what a checkpoint keeps of the settings: all that must stay the same on resumption.

        Args:
            graph: the causal graph.
            world: the number of processes.
        """
        kept = {name: value for name, value in asdict(self).items() if name not in RESUMABLE}
        kept["fine_tune"] = str(self.fine_tune) if self.fine_tune else None
        kept |= {name: kept[name] or None for name in ADDED}
        shift = self.find_shift(graph)
        kept["shift"] = None if shift == 1 else shift
        return {"data": graph.name, **kept, "world": world}
