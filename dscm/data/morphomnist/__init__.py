"""Morpho-MNIST: digits measured, redrawn, and read."""
