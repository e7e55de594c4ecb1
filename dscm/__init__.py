"""Counterfactual images from structural causal models with diffusion mechanisms."""

__version__ = "0.1.0"
