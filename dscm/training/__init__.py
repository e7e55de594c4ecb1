"""Training of every part of a causal model."""
