"""Image mechanisms that the diffusion models are compared with, under the same contract."""
