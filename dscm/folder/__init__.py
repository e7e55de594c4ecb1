"""Queries about a folder of images, and their answers."""
