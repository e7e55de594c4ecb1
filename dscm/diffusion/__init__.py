"""Diffusion models, from one step to a mechanism of the image."""
