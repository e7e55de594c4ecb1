"""Morpho-MNIST: measure digits, redraw them with other attributes, read and write the data set."""

from dscm.data.morphomnist.dataset import FILES, cut, load, load_file

__all__ = ["FILES", "cut", "load", "load_file"]
