"""The one error that is meant for the person who typed the command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Say in one line what is wrong with an argument or a file, and what would be right.

    The message names the file, the field and the allowed values. Scripts print it and exit with code 2.
    """


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turn an `InputError` into one line on standard error and exit code 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
