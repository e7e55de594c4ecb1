"""Options of the command line."""

import argparse

import pytest
from dscm.cli.options import add_abduction_arguments


@pytest.mark.parametrize(("several", "wanted"), [(False, "guided"), (True, ["guided"])])
def test_guided_abduction_has_a_flag_of_its_own(several: bool, wanted: str | list[str]) -> None:
    """It stands for ``--abduction guided``, and not beside another one."""
    parser = argparse.ArgumentParser()
    add_abduction_arguments(parser, several)
    assert parser.parse_args(["--abduct-guidance"]).abduction == wanted
    assert parser.parse_args(["--abduction", "guided"]).abduction == wanted
    with pytest.raises(SystemExit):
        parser.parse_args(["--abduct-guidance", "--abduction", "dynamic"])
