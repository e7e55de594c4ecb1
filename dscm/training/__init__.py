"""Training of every part of a model."""
