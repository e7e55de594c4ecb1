"""Counterfactual images from structural causal models with diffusion mechanisms.

``dscm.load(run)`` returns a `dscm.model.Model`, which answers causal questions about images.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what `load` needs when it is first asked for, so that a worker process need not."""
    if name == "load":
        from dscm.model import load

        return load
    raise AttributeError(f"module 'dscm' has no attribute '{name}'")
