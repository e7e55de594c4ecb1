"""Morpho-MNIST: measure digits, redraw them with other attributes, read and write the data set."""

from dscm.data.morphomnist.dataset import load, load_training

__all__ = ["load", "load_training"]
