"""Metrics of counterfactual soundness, and the tables they fill."""
