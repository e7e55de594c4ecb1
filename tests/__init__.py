"""Tests of the package, in its own folders, and of its scripts; `pytest --slow` also runs what trains for minutes."""
