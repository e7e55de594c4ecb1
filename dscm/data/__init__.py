"""Data sets and image folders as tensors."""
