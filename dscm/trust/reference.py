"""What answers are compared with: what a model makes of validation images, as its checkpoint carries it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dscm.causal.support import Support
from dscm.causal.variables import Variable
from dscm.settings import show
from dscm.trust.typicality import Typicality

VISIBLE = 0.5  # of the standard deviation of the training data: a medium effect (Cohen 1988)
TRUSTED = 0.99  # share of the validation images whose own reading lies within the tolerance

PREDICTION = ("guidance", "guidance_interval", "mix", "classifier_scale")  # settings that act after an abduction
APPROXIMATE = (  # those that say how closely a flow, or an intervention, is followed, and how many codes
    *("steps", "grid", "sigma_min", "solver", "fixed_point", "precision", "sample_code", "corrections"),
    *("cta_lr", "cta_steps", "cta_optimizer"),
)


@dataclass(frozen=True, eq=False)
class Reference:
    """Hold what a model, or an oracle, does on validation images; what it was not measured on is None or absent.

    Args:
        abduction, prediction: the settings of either, as `describe_settings` writes them; ``noise`` holds under the
            former alone, ``composition`` and ``identity`` under both.
        noise: how usual images and their noise are.
        composition: L1 of each image to its composition, sorted, (n,).
        identity: by the variables that are set, joined by commas, L1 of each counterfactual to the composition under
            values that are permuted within the images, sorted, (n,).
        errors: by attribute, ``|reading − recorded|`` of the measure or the oracle on the images themselves, sorted,
            (n,); of a class 0 where it is right, or 1.
        n: number of images.
        split: whose images they are: ``valid``, or ``test`` where there are none for validation.
    """

    abduction: str = ""
    prediction: str = ""
    noise: Typicality | None = None
    composition: Tensor | None = None
    identity: Mapping[str, Tensor] = field(default_factory=dict)
    errors: Mapping[str, Tensor] = field(default_factory=dict)
    n: int = 0
    split: str = "valid"

    def state(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        words = {"abduction": self.abduction, "prediction": self.prediction}
        tensors = {"composition": self.composition, "identity": dict(self.identity), "errors": dict(self.errors)}
        noise = self.noise.state() if self.noise else None
        return {**words, "noise": noise, **tensors, "n": self.n, "split": self.split}

    def suits(self, sampling: Any) -> tuple[bool, bool]:
        """Tell whether the numbers about noise, and those about images, hold under settings of a mechanism."""
        abduction, prediction = describe_settings(sampling)
        return abduction == self.abduction, (abduction, prediction) == (self.abduction, self.prediction)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Reference":
        """Restore from plain data.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is damaged.
        """
        composition = state["composition"]
        identity, errors = ({str(k): v.float() for k, v in state[name].items()} for name in ("identity", "errors"))
        samples = [*identity.values(), *errors.values(), *([] if composition is None else [composition])]
        if any(x.dim() != 1 or not len(x) or not x.isfinite().all() or (x.diff() < 0).any() for x in samples):
            raise ValueError("the reference is not readable")
        noise = Typicality.from_state(state["noise"]) if state["noise"] is not None else None
        whole = None if composition is None else composition.float()
        words = str(state["abduction"]), str(state["prediction"])
        return cls(*words, noise, whole, identity, errors, int(state["n"]), str(state["split"]))


def describe_settings(sampling: Any) -> tuple[str, str]:
    """Describe the settings of a mechanism on which its noise, and its predictions from it, depend.

    Solvers and their steps are left out: they approximate one flow. So is `sample_code`, since typicality is that of
    the mean code, and `corrections`, which move what is told by less than what counts as visible.

    Args:
        sampling: the settings.

    Returns:
        The settings of the abduction, and those of the prediction, as text.
    """
    values = {name: value for name, value in show(sampling).items() if name not in APPROXIMATE}
    guided = getattr(sampling, "guides_abduction", False)
    early = {name: value for name, value in values.items() if guided or name not in PREDICTION}
    late = {name: value for name, value in values.items() if name not in early}
    return tuple(" ".join(f"{k}={v}" for k, v in part.items()) for part in (early, late))  # type: ignore[return-value]


@dataclass(frozen=True)
class Gauge:
    """What reads an attribute off an image, and how far a reading may be off.

    Its own error alone is no unit: that of a measure of drawings, which are drawn until they measure right, is nearly
    zero, and nobody would see such a difference.

    Args:
        variable: the attribute.
        tolerance: the largest difference that counts as none: of a number what 99% of its own errors keep, and at least
            `VISIBLE` standard deviations of the training data; of a class 0.

    Source: Cohen 1988, Statistical power analysis: a medium effect, half a standard deviation, is one that a careful
    observer sees with the naked eye.
    """

    variable: Variable
    tolerance: float

    def difference(self, x: Tensor, y: Tensor) -> Tensor:
        """Return how far values are apart, (N,), in raw units; around the circle, and 1 for different classes."""
        if self.variable.discrete:
            return (x != y).float()
        gap = (x - y).float()
        return ((gap + 0.5) % 1 - 0.5).abs() if self.variable.kind == "circular" else gap.abs()

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """Tell which values are no farther apart than the tolerance, bool (N,)."""
        return self.difference(x, y) <= self.tolerance

    def in_units(self, x: Tensor, y: Tensor) -> Tensor | None:
        """Return how far values of a number are apart in units of the tolerance, (N,); None of a class."""
        return self.difference(x, y) / self.tolerance if self.tolerance else None


def make_gauges(
    variables: Iterable[Variable], references: Iterable[Reference | None], support: Support | None
) -> dict[str, Gauge]:
    """Make the gauge of each attribute from what checkpoints carry.

    An attribute with neither errors nor a marginal in the training data has none, since nothing says what is near.

    Args:
        variables: the attributes.
        references: of the checkpoint of the image and of the oracle; the first that knows an attribute counts.
        support: what the training data said of the parents.
    """
    known = [reference for reference in references if reference]
    gauges = {}
    for variable in variables:
        own = next((r.errors[variable.name] for r in known if variable.name in r.errors), None)
        usual = find_spread(support, variable) if support else None
        if variable.discrete:
            gauges[variable.name] = Gauge(variable, 0.0)
        elif own is not None or usual is not None:
            widest = torch.quantile(own, TRUSTED).item() if own is not None else 0.0
            gauges[variable.name] = Gauge(variable, max(widest, VISIBLE * (usual or 0.0)))
    return gauges


def find_spread(support: Support, variable: Variable) -> float | None:
    """Return half the central 68% of a number in the training data, its standard deviation were it normal."""
    if variable.discrete or variable.name not in support.marginals:
        return None
    _, _, below, _, above, _, _ = support.marginals[variable.name].tolist()
    return (above - below) / 2
