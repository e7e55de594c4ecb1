"""Causal graphs, their mechanisms, and the queries on them."""
