"""The error for invalid input, worded for Python and for the command line alike."""

import re
from collections.abc import Callable


class InputError(ValueError):
    """Say in one line what is wrong with an argument or a file, and what would be right.

    The message names the file, the field and the allowed values. Settings are named by `option`, so that the same
    message reads ``steps`` in Python and ``--steps`` on a command line, whose scripts exit with code 2.
    """

    def __str__(self) -> str:
        """Return the message as a Python user reads it."""
        return self.typed(lambda name: name)

    def typed(self, name: Callable[[str], str]) -> str:
        """Return the message in one line, with each setting written as ``name`` does."""
        return spell(" ".join(map(str, self.args)).replace("\n", " "), name)


class EmptySplit(InputError):
    """Say that a data set has no images in a split, as one may have none for validation."""


def option(name: str) -> str:
    """Name a setting within the message of an `InputError`, or a note to the user."""
    return f"\0{name}\0"


def spell(message: str, name: Callable[[str], str] = str) -> str:
    """Return a message with each setting written as ``name`` does; by default as Python has it."""
    return re.sub("\0(\\w+)\0", lambda match: name(match[1]), message)


class UnreadableImage(Exception):
    """Say in one line why an image cannot be used, without its file name."""
