"""Data sets and image folders as tensors, and the only code that scales them."""
