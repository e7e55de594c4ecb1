"""What the command lines share: flags and --set from settings, hints of old flags, and one line for an error."""

import argparse
from dataclasses import dataclass
from typing import Literal

import pytest

from dscm.cli.arguments import Parser, batch_size, number, refuse_unused
from dscm.cli.counterfactual import make_parser
from dscm.cli.sampling import check_alignment
from dscm.cli.script import one_line_errors
from dscm.errors import InputError, option
from dscm.settings import check, setting
from tests.support.scripts import call_script


@dataclass(frozen=True)
class Settings:
    """Settings of a test."""

    steps: int = setting(20, "Steps each way.", low=1)
    grid: Literal["even", "odd"] = setting("even", "Spacing of the steps.")
    code_mix: float = setting(0.0, "Share of the prior.", low=0, high=1)
    pixel_noise: bool = setting(True, "Off abducts the latents alone.")
    rates: tuple[float, ...] = setting((0.5,), "Rates to try.", above=0)

    def __post_init__(self) -> None:
        check(self)


@pytest.fixture
def parser() -> Parser:
    """A parser with one flag, and the other settings by --set."""
    parser = Parser("A test.", [Settings])
    parser.add_fields(parser.add_argument_group("common"), Settings, "steps")
    return parser


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("", {}),
        ("--steps 5", {"steps": 5}),
        ("--set code_mix=0.5 --set pixel_noise=off", {"code_mix": 0.5, "pixel_noise": False}),
        ("--set grid=odd", {"grid": "odd"}),
        ("--set pixel_noise", {"pixel_noise": True}),
        ("--set rates=1 --set rates=2", {"rates": (1.0, 2.0)}),
    ],
)
def test_only_what_was_typed_is_a_setting(parser: Parser, words: str, settings: dict[str, object]) -> None:
    assert parser.read(words.split()).settings == settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--steps 0", "--steps 0: must be an integer, at least 1"),
        ("--set code_mix=2", "--set code_mix 2: must be a number, at least 0, at most 1"),
        ("--set grid=square", "--set grid square: must be one of even, odd"),
        ("--set colour=red", "--set colour=red: must be NAME=VALUE; names are grid, code_mix, pixel_noise, rates"),
        ("--set grid", "--set grid: must be NAME=VALUE"),
        ("--tolerance 1", "--tolerance: no longer exists; leave it out"),
        ("--abduct-guidance", "--abduct-guidance: no longer exists; type --abduction guided"),
    ],
)
def test_refused_in_one_line(parser: Parser, words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors(parser.show):
        parser.read(words.split())
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and not out and err.count("\n") == 1 and err.startswith(f"error: {message}"), err


def test_a_flag_that_is_a_setting_now_is_read_with_a_hint(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    assert parser.read(["--code-mix", "0.25", "--grid=odd"]).settings == {"code_mix": 0.25, "grid": "odd"}
    hints = "hint: --code-mix is now --set code_mix=0.25\nhint: --grid is now --set grid=odd\n"
    assert capsys.readouterr().err == hints


def test_an_error_names_settings_as_they_are_typed(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    """Other errors pass."""
    with pytest.raises(SystemExit) as stop, one_line_errors(parser.show):
        raise InputError(f"{option('steps')} and {option('code_mix')} and {option('data_dir')} do not go together")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --steps and --set code_mix and --data-dir do not go together\n"
    with pytest.raises(ZeroDivisionError), one_line_errors(parser.show):
        raise ZeroDivisionError


def test_numbers_and_batches_have_bounds() -> None:
    assert number(int, 2)("2") == 2 and batch_size("12") == 12 and batch_size("auto") == "auto"
    for kind, text in ((number(int, 2), "1"), (number(float, 0, open_low=True), "0"), (number(float, 0), "nan")):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' must be"):
            kind(text)
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        batch_size("0")


@pytest.mark.parametrize("script", ["train.py", "counterfactual.py", "evaluate.py"])
def test_help_is_short_and_lists_every_setting(script: str) -> None:
    """At most 25 flags, in titled groups; the rest by --set."""
    done = call_script(script, "--help")
    assert done.returncode == 0 and not done.stderr
    flags = [line for line in done.stdout.splitlines() if line.startswith("  --")]
    assert 10 < len(flags) <= 25, len(flags)
    assert "settings of --set NAME=VALUE:" in done.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("0.3 20 FOLDER", "0.3:20"),
        ("0.3:20 FOLDER", "0.3:20"),
        ("slant=2:40,others=0.3:20 FOLDER", None),
        ("5 FOLDER", "5"),
    ],
)
def test_an_interval_is_two_words_or_one(words: str, text: str | None) -> None:
    """What follows is left alone, and what is none is refused with all other settings."""
    args = make_parser().read(["--guidance-interval", *words.split()])
    assert args.settings == {"guidance_interval": text or words.split()[0]} and str(args.images) == "FOLDER"
    assert make_parser().read(["--guidance-interval", "1", "2"]).typed == {"guidance_interval"}


def test_what_changes_nothing_is_refused(parser: Parser) -> None:
    """A default that was typed too, and a setting; what was not typed is no matter."""
    for words in (["--steps", "20"], ["--steps=3"], ["--set", "grid=even"]):
        args = parser.read(words)
        name = "grid" if "--set" in words else "steps"
        assert args.typed == {name} | ({"assigned"} if "--set" in words else set())
        with pytest.raises(InputError, match=f"{name}: has no effect with sample; leave one of them out"):
            refuse_unused(args, "sample", ["code_mix", name])
    refuse_unused(parser.read([]), "sample", ["steps", "grid"])


def test_settings_of_dynamic_abduction_need_it() -> None:
    check_alignment({"cta_lr": 0.1}, ["semantic", "dynamic"])
    check_alignment({"steps": 3}, ["semantic"])
    with pytest.raises(InputError, match="cta_lr: has no effect without abduction dynamic"):
        check_alignment({"cta_lr": 0.1}, ["semantic"])


def test_an_installed_command_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/dscm-train"])
    lines = Parser("python train.py --a\ntorchrun --nproc-per-node 2 train.py …", []).format_help()
    assert "dscm-train --a\ntorchrun --nproc-per-node 2 --no-python dscm-train …" in lines


def test_an_empty_path_is_refused_and_effects_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    """As an unset variable of a shell makes one; a list that is given in two parts is one list."""
    for words in ([""], ["--out", ""], ["--checkpoint", ""]):
        with pytest.raises(SystemExit):
            make_parser().read(words)
        assert "the path is empty" in capsys.readouterr().err
    assert make_parser().read(["--effect", "direct", "--effect", "indirect"]).effect == ["direct", "indirect"]
