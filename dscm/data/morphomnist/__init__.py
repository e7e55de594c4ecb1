"""Morpho-MNIST: measure digits, redraw them with other attributes, read and write the data set."""
