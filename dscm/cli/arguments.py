"""What the command lines of the three scripts have in common.

Flags come from the fields of the settings dataclasses. The common ones are flags of their own; all others are given by
``--set NAME=VALUE``, whose names, values and defaults the help lists.
"""

import argparse
import dataclasses
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_type_hints

from dscm import settings
from dscm.data.cache import user_cache_dir
from dscm.data.sets import Source
from dscm.errors import InputError, option, spell
from dscm.machine import AUTO, Machine, is_first_to_fail, set_up

Arguments = argparse.Namespace  # of a parsed command line
GONE = {  # flags of earlier versions, and what to type now
    "--abduct-guidance": "--abduction guided",
    "--no-pixel-noise": "--set pixel_noise=off",
    "--channels-last": "",
    "--tolerance": "",
    "--eager": "",
    "--keep-aspect": "--fit pad",
}


class Parser(argparse.ArgumentParser):
    """A parser whose flags come from settings.

    Args:
        description: the script's docstring, with its commands as typed in the checkout.
        kinds: classes of settings, whose fields without a flag are given by ``--set``.
        without: the fields that cannot be given.
    """

    def __init__(self, description: str | None, kinds: Sequence[type], without: Sequence[str] = ()) -> None:
        super().__init__(
            description=_as_installed(description or ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.kinds, self.without = tuple(kinds), tuple(without)
        self.flags, self.intervals = list[str](), list[str]()
        self.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assigned",
                          help="a rarely used setting, listed below; may be repeated")  # fmt: skip

    def add_fields(self, group: argparse._ArgumentGroup, kind: type, *names: str) -> None:
        """Add a flag for each of the fields ``names`` of a class of settings; unless typed, its value is None.

        Args:
            group: the group in the help.
            kind: the class.
            names: the fields.
        """
        hints = get_type_hints(kind)
        for field in (field for name in names for field in dataclasses.fields(kind) if field.name == name):
            self.flags.append(field.name)
            choices = settings.choices(kind, field.name)
            options: dict[str, Any] = {"choices": choices} if choices else {"metavar": _metavar(field.name)}
            several = settings.takes_several(kind, field.name)
            if hints[field.name] is bool:
                options = {"action": "store_const", "const": True}
            elif not choices:
                options["type"] = self._reader(kind, field.name)
            if settings.takes_interval(kind, field.name):
                self.intervals.append(field.name)
                options["metavar"] = "LOW HIGH"
            if several:
                options["nargs"] = "+"
            words = field.metadata["help"].rstrip(".")
            if "Default:" not in words and field.default not in (None, False):
                words += f" (default: {_write(field.default)})"
            group.add_argument(_flag(field.name), help=_lower(words), **options)

    def settable(self) -> dict[str, type]:
        """List the fields that ``--set`` takes, each with its class."""
        fields = {field.name: kind for kind in self.kinds for field in dataclasses.fields(kind)}
        typed = {action.dest for action in self._actions}
        return {name: kind for name, kind in fields.items() if name not in typed and name not in self.without}

    def read(self, arguments: Sequence[str] | None = None) -> Arguments:
        """Parse the command line.

        ``args.settings`` holds the pairs of ``--set`` and the flags of settings; ``args.typed`` the names of all that
        was typed.
        """
        known = self.settable()
        entries = [f"  {name:<18}{_explain(kind, name)}" for name, kind in known.items()]
        lines = [textwrap.fill(entry, 100, subsequent_indent=20 * " ") for entry in entries]
        self.epilog = "\n".join(["settings of --set NAME=VALUE:", *lines]) if lines else None
        words = self._translate(sys.argv[1:] if arguments is None else arguments)
        args = self.parse_args(words)
        values: dict[str, Any] = {}
        for pair in args.assigned:
            name, equals, text = pair.partition("=")
            if name in known and not equals and get_type_hints(known[name])[name] is bool:
                equals, text = "=", "on"
            if now := GONE.get(_flag(name)):
                self.error(f"--set {pair}: no longer exists; type {now}")
            if not equals or name not in known:
                self.error(f"--set {pair}: must be NAME=VALUE; names are {', '.join(known)}")
            value = settings.parse(known[name], name, text)
            values[name] = (*values.get(name, ()), value) if settings.takes_several(known[name], name) else value
        typed = {name: getattr(args, name) for name in self.flags if getattr(args, name) is not None}
        args.settings = values | {name: tuple(v) if isinstance(v, list) else v for name, v in typed.items()}
        flags = {flag: action.dest for action in self._actions for flag in action.option_strings}
        args.typed = {
            flags[word] for word in (word.partition("=")[0] for word in words) if word in flags
        } | values.keys()
        return args

    def show(self, name: str) -> str:
        """Write a setting as it is typed."""
        return f"--set {name}" if name in self.settable() else _flag(name)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one line, from one process of torchrun's."""
        self.exit(2, f"error: {message}\n" if is_first_to_fail() else None)

    def _reader(self, kind: type, name: str) -> Callable[[str], Any]:
        """Make an argparse type that reads a field."""

        def read(text: str) -> Any:
            try:
                return settings.parse(kind, name, text)
            except InputError as error:
                self.error(error.typed(self.show))

        return read

    def _translate(self, arguments: Sequence[str]) -> list[str]:
        """Replace flags of earlier versions that are settings now, with a hint; refuse those that are gone.

        Two numbers of an interval, each a word, become one, as it is written by ``--set``.
        """
        known, result, rest = self.settable(), [], list(arguments)
        while rest:
            word = rest.pop(0)
            flag, equals, typed = word.partition("=")
            name = flag.removeprefix("--").replace("-", "_")
            if flag in GONE:
                self.error(f"{flag}: no longer exists; {f'type {GONE[flag]}' if GONE[flag] else 'leave it out'}")
            if flag.startswith("--") and name in known:
                switch = get_type_hints(known[name])[name] is bool
                values = ["on"] if switch else [typed] if equals else [rest.pop(0)] if rest else [""]
                while settings.takes_several(known[name], name) and rest and not rest[0].startswith("--"):
                    values.append(rest.pop(0))
                pairs = [f"{name}={value}" for value in values]
                if os.environ.get("RANK", "0") == "0":
                    print(f"hint: {flag} is now --set {' --set '.join(pairs)}", file=sys.stderr)
                result += [word for pair in pairs for word in ("--set", pair)]
            elif word in map(_flag, self.intervals) and len(rest) > 1 and all(map(_is_number, rest[:2])):
                result.append(f"{word}={rest.pop(0)}:{rest.pop(0)}")
            else:
                result.append(word)
        return result


def refuse_unused(args: Arguments, owner: str, names: Sequence[str]) -> None:
    """Refuse options that were typed and would change nothing beside another one.

    Args:
        args: the command line, as `Parser.read` returns it.
        owner: the other option.
        names: those that have no effect beside it.

    Raises:
        InputError: one of them was typed.
    """
    for name in names:
        if name in args.typed:
            raise InputError(f"{option(name)}: has no effect with {option(owner)}; leave one of them out")


def number(kind: type, low: float, high: float = float("inf"), open_low: bool = False) -> Callable[[str], Any]:
    """Make an argparse type that accepts numbers in a range.

    Args:
        kind: int or float.
        low, high: the range, inclusive.
        open_low: exclude ``low`` itself.
    """
    bounds = f"{'more than' if open_low else 'at least'} {low:g}"
    if high < float("inf"):
        bounds += f", at most {high:g}"

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high or value == float("inf") or (open_low and value == low):
            noun = "an integer" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"'{text}' must be {noun}, {bounds}")
        return value

    return parse


def location(text: str) -> Path:
    """Read a path that is not empty, as an unset variable of a shell would make it; an argparse type."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def batch_size(text: str) -> int | Literal["auto"]:
    """Read a number of images, at least 1, or ``auto``; an argparse type."""
    return AUTO if text == AUTO else number(int, 1)(text)


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add ``--device``, ``--threads`` and ``--seed``; return their group."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    group.add_argument("--threads", type=number(int, 1), metavar="N", help="CPU threads (default: PyTorch's choice)")
    group.add_argument("--seed", type=number(int, 0, 2**62), default=0, metavar="N",
                       help="of everything random (default: 0)")  # fmt: skip
    return group


def add_data(group: argparse._ArgumentGroup) -> None:
    """Add the place of the data set."""
    words = "the data set: raw MNIST or a Morpho-MNIST folder (default: MNIST is downloaded), or the folder of "
    words += "CelebA, CelebAMask-HQ, EMBED, pendulums or your images"
    group.add_argument("--data-dir", type=location, metavar="DIR", help=words)
    group.add_argument("--cache-dir", type=location, default=user_cache_dir(), metavar="DIR",
                       help="for generated and decoded images (default: %(default)s)")  # fmt: skip


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add what says where, and how, a command reads the data of a training; `find_source` reads it."""
    parser.add_argument("--csv", type=location, nargs="+", default=[], help="the one or two CSV files of EMBED")
    parser.add_argument("--skip-missing", action="store_true", help="as in the training")
    add_data(parser.add_argument_group("data"))


def find_source(args: argparse.Namespace) -> Source:
    """Return the place of the data that the flags of `add_source` name."""
    workers = os.cpu_count() or 1
    return Source(args.data_dir, args.cache_dir, tuple(args.csv), skip_missing=args.skip_missing, workers=workers)


def start(args: Arguments) -> Machine:
    """Choose the device and join the other processes."""
    return set_up(args.device, args.threads)


def say(notes: Iterable[str], parser: Parser) -> None:
    """Print notes to the user on standard error, one line each, with settings as they are typed."""
    for note in notes:
        print(f"note: {spell(note, parser.show)}", file=sys.stderr)


def _as_installed(text: str) -> str:
    """Write commands as they are typed where the package is installed and this is one of its commands."""
    if sys.argv[0].endswith(".py"):
        return text
    return re.sub(r"(torchrun .*?)(\w+)\.py", r"\1--no-python dscm-\2", re.sub(r"python (\w+)\.py", r"dscm-\1", text))


def _is_number(text: str) -> bool:
    """Tell whether text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _flag(name: str) -> str:
    """Write the flag of a field."""
    return f"--{name.replace('_', '-')}"


def _metavar(name: str) -> str:
    """Write the placeholder of a field's value."""
    if name in ("steps", "n", "cycles", "size", "patch", "batch"):
        return "N"
    return {"guidance": "ω", "fine_tune": "CKPT"}.get(name, "X")


def _write(value: Any) -> str:
    """Write a default, or several."""
    if isinstance(value, tuple):
        return " ".join(map(_write, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _lower(sentence: str) -> str:
    """Begin a sentence in lower case, as help does."""
    return sentence[:1].lower() + sentence[1:]


def _explain(kind: type, name: str) -> str:
    """Write the help of a setting: its sentence, its values, its default."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    allowed = settings.describe(kind, name)
    default = ("off", "on")[field.default] if isinstance(field.default, bool) else field.default
    return f"{field.metadata['help']} ({allowed}{'' if default in (None, ()) else f'; default {default}'})"
