"""The one error that is meant for the person who typed the command."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Say in one line what is wrong with an argument or a file, and what would be right.

    The message names the file, the field and the allowed values. Scripts print it and exit with code 2.
    """


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turn an `InputError` into one line on standard error, from one process of torchrun's, and exit code 2."""
    try:
        yield
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
