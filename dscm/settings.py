"""Settings as frozen dataclasses: defaults, allowed values and help stand once, beside each field.

A class of settings declares its fields by `setting` and calls `check` in ``__post_init__``. Python callers, command
lines and checkpoints all read the same fields.
"""

import dataclasses
import math
import numbers
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dscm.errors import InputError, option

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")
WORDS = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}


def setting(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    implies: Mapping[str, Any] = {},
    prefers: Mapping[str, Any] = {},
) -> Any:
    """Declare a field of a class of settings.

    Args:
        default: its value unless the user says otherwise; None where another setting decides.
        help: one sentence for the user.
        low, high: the smallest and the largest value allowed.
        above: a bound that is itself not allowed.
        implies: of a switch, the values that other settings must have when it is on.
        prefers: of a switch, the values that other settings have when it is on and nothing else is chosen.
    """
    bounds, others = {"low": low, "high": high, "above": above}, {"implies": implies, "prefers": prefers}
    return dataclasses.field(default=default, metadata={"help": help, **bounds, **others})


def check(settings: Any) -> None:
    """Check every field of a dataclass against its type and bounds.

    Raises:
        InputError: a value is of the wrong type or outside its bounds.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        if not _suits(value, hints[field.name]) or not all(_within(part, field.metadata) for part in parts):
            shown = " ".join(map(str, parts))
            raise InputError(f"{option(field.name)} {shown}: must be {describe(type(settings), field.name)}")


def check_integer(name: str, value: int, low: int, high: int = 2**62) -> int:
    """Check an argument that is an integer, and return it.

    Args:
        name: the argument.
        value: its value.
        low, high: the smallest and the largest value allowed.

    Raises:
        InputError: it is no integer, or outside its bounds.
    """
    if not _suits(value, int) or not low <= value <= high:
        raise InputError(f"{option(name)} {value}: must be an integer, {low} to {high}")
    return int(value)


def show(settings: Any) -> dict[str, str]:
    """Write every field of settings as text, by name."""
    return {field.name: str(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def check_mapping(name: str, value: object, form: str) -> None:
    """Check that an argument holds values by name.

    Args:
        name: the argument.
        value: what was passed.
        form: what it must be.

    Raises:
        InputError: it is no mapping.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{option(name)} {value}: must be {form}")


def parse(kind: type, name: str, text: str) -> Any:
    """Read the value of a field from text.

    Args:
        kind: the class of settings.
        name: the field.
        text: what the user typed.

    Raises:
        InputError: the text is no value of the field.
    """
    hint = _plain(get_type_hints(kind)[name])
    value = _read(text, hint)
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    if value is None or not _within(value, field.metadata):
        raise InputError(f"{option(name)} {text}: must be {describe(kind, name)}")
    return value


def change(settings: Settings, changes: Mapping[str, Any], owner: str) -> Settings:
    """Return settings with some fields changed.

    Args:
        settings: an instance of a class of settings.
        changes: values by field.
        owner: the owner of the settings, for the message.

    Raises:
        InputError: there is no such field, or a value is not allowed.
    """
    known = [field.name for field in dataclasses.fields(settings)]
    for name in changes:
        if name not in known:
            raise InputError(f"{option(name)}: not a setting of {owner}; known: {', '.join(map(option, known))}")
    return dataclasses.replace(settings, **complete(type(settings), changes))


def complete(kind: type, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Add to changes of settings what the switches among them stand for.

    Args:
        kind: the class of settings.
        changes: values by field.

    Raises:
        InputError: a change contradicts a switch.
    """
    result = dict(changes)
    for field in dataclasses.fields(kind):
        if field.metadata["implies"] and changes.get(field.name):
            for name, value in field.metadata["implies"].items():
                refuse_contradiction(field.name, name, value, changes.get(name, value))
            result = {**field.metadata["prefers"], **result, **field.metadata["implies"]}
    return result


def refuse_contradiction(switch: str, name: str, value: Any, chosen: Any) -> None:
    """Check that a setting has the value that a switch stands for.

    Raises:
        InputError: it has another one.
    """
    if chosen != value:
        raise InputError(f"{option(name)} {chosen}: contradicts {option(switch)}, which stands for {value}")


def describe(kind: type, name: str) -> str:
    """Say in words which values a field allows, as in ``an integer, at least 1``."""
    hint = _plain(get_type_hints(kind)[name])
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    low, high, above = (field.metadata.get(bound) for bound in ("low", "high", "above"))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if hint is bool:
        return "on or off"
    nouns = {int: "an integer", float: "a number", str: "text"}
    words = [nouns.get(hint, "two numbers" if get_origin(hint) is tuple else "a value")]
    bounds = (("at least", low), ("more than", above), ("at most", high))
    return ", ".join([*words, *(f"{word} {bound:g}" for word, bound in bounds if bound is not None)])


def choices(kind: type, name: str) -> Sequence[str]:
    """List the values of a field that has a fixed choice of them; empty for the others."""
    hint = _plain(get_type_hints(kind)[name])
    return get_args(hint) if get_origin(hint) is Literal else ()


def takes_several(kind: type, name: str) -> bool:
    """Tell whether a field takes any number of values, as ``tuple[float, ...]`` does."""
    return _takes_several(get_type_hints(kind)[name])


def takes_interval(kind: type, name: str) -> bool:
    """Tell whether a field takes two numbers, in text with a colon between them, as ``tuple[float, float]`` does."""
    return get_origin(_plain(get_type_hints(kind)[name])) is tuple


def _takes_several(hint: Any) -> bool:
    """Tell whether a type is a tuple of any length."""
    return get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis


def _plain(hint: Any) -> Any:
    """Return the type of one value: strip None from an optional type, and the tuple from one of any length."""
    if _takes_several(hint):
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return kinds[0]
    return hint


def _suits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a type, where ints are floats too."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_suits(value, kind) for kind in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if _takes_several(hint):
        return isinstance(value, tuple) and bool(value) and all(_suits(part, get_args(hint)[0]) for part in value)
    if get_origin(hint) is tuple:
        return (
            isinstance(value, tuple) and len(value) == len(get_args(hint)) and all(map(_suits, value, get_args(hint)))
        )
    if hint in (int, float):
        number = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool) and -math.inf < value < math.inf  # type: ignore[operator]
    return isinstance(value, hint)


def _within(value: Any, bounds: Mapping[str, Any]) -> bool:
    """Tell whether a number keeps the bounds of its field; anything else does."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return True
    low, high, above = (bounds.get(bound) for bound in ("low", "high", "above"))
    return (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)


def _read(text: str, hint: Any) -> Any:
    """Turn text into a value of a type; None where it is none."""
    if get_origin(hint) is Literal:
        return text if text in get_args(hint) else None
    if hint is bool:
        return WORDS.get(text.lower())
    if hint in (int, float):
        try:
            value = hint(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None
    return text
