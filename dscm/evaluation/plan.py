"""The plan of an evaluation: its settings, and the rows of its tables."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from dscm import settings
from dscm.causal.particles import MOST, sample_codes
from dscm.checkpoint import Restored
from dscm.diffusion.guidance import Weights
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.sampling import PER_STEP, Sampling, Trajectory
from dscm.errors import InputError, option
from dscm.evaluation.configuration import Configuration
from dscm.evaluation.route import Route
from dscm.model import Model
from dscm.settings import setting
from dscm.training.presets import get_preset

SHARED = ("precision", "published")  # by all rows of a folder
PATH = (*(field.name for field in fields(Trajectory)), "guidance_interval")  # of the rows that follow one
VARIANTS = {  # the words for settings of a code, or of a baseline, that differ from their defaults
    "pixel_noise": "without pixel noise",
    "sample_code": "sampled code",
    "corrections": "corrected {}x",
    "mix": "mix={:g}",
    "residuals": "residual latents",
    "classifier_scale": "classifier_scale={:g}",
    "clamp": "unclamped",
}


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings of an evaluation.

    Raises:
        InputError: a value is not allowed.
    """

    n: int = setting(512, "Images. Default: 512, or all there are.", low=2)
    guidance: tuple[Weights | float | str, ...] = setting(
        (1, 1.5, 3),
        "Guidance weights ω to compare; each a number, or one for each group of parents, as in thickness=3,others=1 "
        "or, for the variables that are intervened on, do=3,others=1.",
    )
    abduction: tuple[Literal["semantic", "guided", "dynamic", "residual"], ...] = setting(
        ("semantic",), "Abductions to compare; they share a solver."
    )
    split: Literal["test", "valid"] = setting(
        "test", "Images to measure on: those for testing, or those for validation, on which to choose settings."
    )
    mixture: bool | None = setting(
        None,
        "Of Morpho-MNIST: whether a fifth each of thickness, slant and intensity is uniform. Default: as in training.",
    )
    particles: int = setting(
        1, "Samples M of the code; counterfactuals are their means, and their spread is measured.", low=1, high=MOST
    )
    cycles: int = setting(1, "Rounds of composition and reversal.", low=1)
    sampler: Literal["marginal", "different", "bins"] = setting(
        "marginal",
        "Interventions: values permuted within the images, the paper's; values forced to differ; or values of another "
        "bin, those of Melistas et al. (2024).",
    )
    oracle_accuracy: float = setting(
        0.9, "Least accuracy, or R², of the oracle on the test images; 0 accepts any.", low=0, high=1
    )
    batch: int | Literal["auto"] = setting(64, "Images at a time; auto: as many as fit.", low=1)
    seed: int = setting(0, "Seed of everything random.", low=0, high=2**62)

    def __post_init__(self) -> None:
        """Check each setting."""
        weights = self.guidance if isinstance(self.guidance, list | tuple) else (self.guidance,)
        object.__setattr__(self, "guidance", tuple(map(Weights.read, weights)))
        abductions = (self.abduction,) if isinstance(self.abduction, str) else tuple(self.abduction)
        object.__setattr__(self, "abduction", abductions)
        settings.check(self)

    @property
    def weights(self) -> list[Weights]:
        """Return ω of every group, rounded as the records show it."""
        return [Weights.read(str(w)) if w.groups else w for w in map(Weights.read, self.guidance)]

    @property
    def solver(self) -> Literal["ddim", "trapezoid"]:
        """Return the solver that suits all abductions, so that they can be compared."""
        return "ddim" if set(self.abduction) & set(PER_STEP) else "trapezoid"


@dataclass(frozen=True)
class Plan:
    """One row to measure.

    Args:
        model: with the settings of the row.
        configuration: its description.
        name: the name of the file with its numbers.
    """

    model: Model
    configuration: Configuration
    name: str

    @property
    def cost(self) -> tuple[int, int, bool, int]:
        """Return the key that sorts rows by their need of memory."""
        row, weights = self.configuration, self.configuration.guidance or Weights(1.0)
        rank = ("guided", "residual", "dynamic").index(row.abduction) + 1 if row.abduction else 0
        return row.parameters or 0, rank, not weights.trivial, len(weights.groups)


def vary(models: Sequence[Model], evaluation: EvaluationSettings, changes: Mapping[str, Any]) -> list[Model]:
    """Return every model with each of the settings to compare.

    Args:
        models: models of the same images.
        evaluation: the settings of the evaluation.
        changes: settings of the mechanisms, for each mechanism that has them.

    Raises:
        InputError: settings exclude each other, or do not suit a model.
    """
    return [view for model in models for view in _vary(model, evaluation, changes)]


def is_unguided(model: Model) -> bool:
    """Tell whether a diffusion model was trained without a null token."""
    return isinstance(model.mechanism, DiffusionMechanism) and not model.mechanism.null_trained


def find_unguided(models: Sequence[Model], evaluation: EvaluationSettings) -> list[Path]:
    """List the checkpoints of models that cannot be guided as others are, and are measured at ω = 1 alone."""
    guides = not all(weights.trivial for weights in evaluation.weights)
    return [model.checkpoint.path for model in models if guides and is_unguided(model)]


def plan_rows(models: Sequence[Model], group: str | None = None) -> list[Plan]:
    """List the rows of models that have their settings; those that measure the same are one row.

    Args:
        models: with their settings, from `vary`.
        group: the name of the setting that the models are trainings of.
    """
    paths = list(dict.fromkeys(model.checkpoint.path for model in models))
    labels = dict(zip(paths, _tell_apart(paths)))
    rows: dict[Configuration, Plan] = {}
    for model in models:
        configuration = replace(describe(model), group=group)
        rows[configuration] = Plan(model, configuration, configuration.file_name(labels[model.checkpoint.path]))
    return list(rows.values())


def check_alike(models: Sequence[Model]) -> None:
    """Check that models can be compared.

    Raises:
        InputError: they are of different images or graphs, or have different oracles or learned attributes.
    """
    images = {_describe_images(model) for model in models}
    if len(images) > 1:
        raise InputError(f"made for different data ({'; '.join(sorted(images))}); evaluate them apart")
    if any(model.graph.key != models[0].graph.key for model in models):
        raise InputError(f"made for different graphs named {images.pop()}; evaluate them apart")
    for part in ("oracle_checkpoint", "attributes_checkpoint"):
        if len({other and other.sha256 for other in (getattr(model, part) for model in models)}) > 1:
            noun = option("oracle" if part == "judge" else "attributes")
            raise InputError(f"{noun}: the models have different ones; evaluate them apart")


def check_group(models: Sequence[Model], name: str) -> None:
    """Check that models are trainings of one setting, apart from the seed.

    Raises:
        InputError: another setting differs.
    """
    first, *others = [{**model.checkpoint.settings, "kind": model.mechanism.kind} for model in models]
    for settings_ in others:
        for key in (first.keys() | settings_.keys()) - {"seed", "world"}:
            if first.get(key) != settings_.get(key):
                values = f"{first.get(key)} and {settings_.get(key)}"
                raise InputError(f"{option('as')} {name}: not trainings of one setting: {key} is {values}")


def check_names(models: Sequence[Model], names: Sequence[str]) -> None:
    """Check that each of the settings ``names`` belongs to a model, or may belong to other rows of the folder.

    Raises:
        InputError: one does not.
    """
    known = {*SHARED, *PATH, *(name for model in models for name in _list_settings(model))}
    for name in names:
        if name not in known:
            kinds = ", ".join(sorted({model.mechanism.kind for model in models}))
            raise InputError(
                f"{option(name)}: not a setting of {kinds}; known: {', '.join(map(option, sorted(known)))}"
            )


def find_shared(models: Sequence[Model], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that all rows of a folder share, as chosen where no mechanism has them.

    Args:
        models: with their settings, from `vary`.
        changes: as in `vary`.

    Raises:
        InputError: the models have different ones, or a value is not allowed.
    """
    shared: dict[str, Any] = {}
    for sampling in (model.mechanism.sampling for model in models):
        for name in (name for name in SHARED if hasattr(sampling, name)):
            value = getattr(sampling, name)
            if shared.setdefault(name, value) != value:
                raise InputError(f"{option(name)}: {shared[name]} and {value}: choose one for all models")
    chosen = Sampling(guidance=1.0, **{name: value for name, value in changes.items() if name in (*SHARED, *PATH)})
    return {name: getattr(chosen, name) for name in SHARED} | shared


def describe(model: Model) -> Configuration:
    """Describe a model with its settings."""
    image, mechanism = model.checkpoint, model.mechanism
    sampling, training = mechanism.sampling, image.settings
    diffusion = isinstance(mechanism, DiffusionMechanism)
    aligned = diffusion and sampling.abduction == "dynamic"
    return Configuration(
        sha256=image.sha256,
        mechanism=mechanism.kind,
        abduction=sampling.abduction if diffusion and sampling.abduction != "semantic" else None,
        variant=_describe_variant(sampling),
        guidance=sampling.weights if diffusion else None,
        alignment=sampling.alignment if aligned else None,
        route=Route.of(sampling) if isinstance(sampling, Trajectory) else None,
        checkpoint=image.path,
        p_null=training.get("p_null"),
        beta=_find_beta(image),
        device=str(model.device),
        training_steps=image.step,
        training_minutes=None if image.seconds is None else image.seconds / 60,
        parameters=sum(parameter.numel() for parameter in mechanism.parameters()),
    )


def _list_settings(model: Model) -> set[str]:
    """List the settings that have an effect on a model."""
    without = set() if model.mechanism.has_code else {"sample_code"}
    return {field.name for field in fields(model.mechanism.sampling)} - without


def _vary(model: Model, evaluation: EvaluationSettings, changes: Mapping[str, Any]) -> Iterator[Model]:
    """Yield a model with each of the settings that are compared; a baseline and an unguided model have one row."""
    sampling = model.mechanism.sampling
    names = _list_settings(model)
    chosen = {name: value for name, value in changes.items() if name in names}
    chosen = sample_codes(model.mechanism, evaluation.particles, chosen)
    if "solver" in names and chosen.get("solver", sampling.solver) is None:
        chosen["solver"] = evaluation.solver
    if not isinstance(model.mechanism, DiffusionMechanism):
        yield model.using(**chosen)
        return
    if is_unguided(model) and any(weights.trivial for weights in evaluation.weights):
        yield model.using(**chosen, guidance=1.0, abduction="semantic")
        return
    for weights, abduction in itertools.product(evaluation.weights, evaluation.abduction):
        view = model.using(**chosen, guidance=weights, abduction=abduction)
        yield view.using(abduction="semantic") if weights.trivial else view  # without guidance all abductions agree


def _describe_variant(sampling: Any) -> str:
    """Name the settings among `VARIANTS` that differ from their defaults."""
    defaults = {field.name: field.default for field in fields(sampling)}
    values = {name: getattr(sampling, name) for name in VARIANTS if name in defaults}
    return " ".join(VARIANTS[name].format(value) for name, value in values.items() if value != defaults[name])


def _describe_images(model: Model) -> str:
    """Describe the images of a model: graph, size and, unless it is the usual one, framing."""
    framing = "" if model.framing == type(model.framing)() else f", {model.framing.name}"
    return f"{model.graph.name}, {model.mechanism.shape[-1]} px{framing}"


def _find_beta(image: Restored[Any]) -> float | None:
    """Return β of a training; unless it was chosen, it is that of the preset."""
    beta, preset = image.settings.get("beta"), image.settings.get("preset")
    if beta is not None or preset is None:
        return beta
    return get_preset("image", image.graph, preset, image.model.kind).training.beta


def _tell_apart(paths: Sequence[Path]) -> list[str]:
    """Name checkpoints by their file, or by folder and file where files have the same name."""
    stems = [path.stem for path in paths]
    return [f"{path.parent.name}-{path.stem}" if stems.count(path.stem) > 1 else path.stem for path in paths]
