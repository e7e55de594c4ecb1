"""Wrong input is one line, in the words of whoever reads it."""

from dscm.errors import InputError, option


def test_a_message_names_settings_as_python_and_as_a_command_line_do() -> None:
    error = InputError(f"{option('data_dir')} x: no such folder; give {option('cache_dir')} too")
    assert str(error) == "data_dir x: no such folder; give cache_dir too"
    typed = error.typed(lambda name: "--" + name.replace("_", "-"))
    assert typed == "--data-dir x: no such folder; give --cache-dir too"
    assert isinstance(error, ValueError)
