"""Counterfactual images from structural causal models with diffusion mechanisms.

`load` returns a `Model`, which answers causal questions about images; `train` fits the parts of one, and `evaluate`
measures how sound its counterfactuals are. `average_causal_effect` and `interventional_samples` ask about populations.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dscm.errors import InputError
    from dscm.evaluation.effects import Estimate, average_causal_effect, interventional_samples
    from dscm.evaluation.runner import evaluate
    from dscm.files import __version__
    from dscm.folder.answer import Answer
    from dscm.model import Model, load
    from dscm.training.run import train

__all__ = [
    "Answer",
    "Estimate",
    "InputError",
    "Model",
    "__version__",
    "average_causal_effect",
    "evaluate",
    "interventional_samples",
    "load",
    "train",
]

_HOMES = {
    "Answer": "dscm.folder.answer",
    "Estimate": "dscm.evaluation.effects",
    "InputError": "dscm.errors",
    "__version__": "dscm.files",
    "Model": "dscm.model",
    "average_causal_effect": "dscm.evaluation.effects",
    "interventional_samples": "dscm.evaluation.effects",
    "evaluate": "dscm.evaluation.runner",
    "load": "dscm.model",
    "train": "dscm.training.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that scripts and worker processes start fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dscm' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
