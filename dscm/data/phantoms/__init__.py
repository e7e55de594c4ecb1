"""Drawn stand-ins for data sets that cannot be had here, in their published layouts, with known counterfactuals."""
