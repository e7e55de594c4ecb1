"""Wrong input is one line and exit code 2."""

import pytest

from dscm.errors import InputError, exit_on_input_error


def test_input_error_is_one_line_and_code_two(capsys: pytest.CaptureFixture) -> None:
    """On standard error; other errors pass."""
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        raise InputError("--steps 0: must be at least 1")
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and err == "error: --steps 0: must be at least 1\n"
    with pytest.raises(ZeroDivisionError), exit_on_input_error():
        raise ZeroDivisionError
