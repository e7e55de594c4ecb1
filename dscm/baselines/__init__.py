"""Baselines: image mechanisms under the same contract as the diffusion mechanism."""
