"""Cases of command lines: flags with absurd values, settings, and queries."""

import argparse
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_type_hints

from damage import TEXTS
from stage import COLUMNS, KIND, MACHINE, Case, Stage

from dscm.cli import counterfactual, evaluate, train
from dscm.cli.arguments import Parser
from dscm.settings import choices

PARSERS: Mapping[str, Callable[[], Parser]] = {
    "counterfactual": counterfactual.make_parser,
    "train": train.make_parser,
    "evaluate": evaluate.make_parser,
}
VALUES = (
    *("0", "1", "2", "-1", "3", "0.5", "-0.5", "1e-9", "1e39", "1e400", "nan", "inf", "-inf", "9" * 23, "auto", "cpu"),
    *("cuda", "mps", "meta", "on", "off", "folder", "celebahq:Smiling,x", "celebahq:", "/", "/dev/null", "volume=2"),
    *("do=3,others=1", "volume=1,volume=2", "=", "a=", ",", "１", "1_0", "0x1", "1;2", "--", "-x"),
)
SLOW = {"steps", "minutes", "cycles", "sample", "n", "size", "cta_steps", "fixed_point", "patch"}  # if they are large
SMALL = ("0", "1", "2", "-1", "3", "0.5", "nan", "inf", "x", "")
HUGE = {"size": "100000", "sample": "10000000000", "n": "1000000000000", "steps": "100000000000000000000000"}
PLAIN = {"help"}  # prints and ends
CONTINUED = {"minutes", "compile", "figures", "preset"}  # take long and are tried elsewhere


def value_for(rng: random.Random, name: str, choices: list[str]) -> str:
    """Draw a value for a flag or a setting."""
    if choices and rng.random() < 0.7:
        return rng.choice(choices)
    if name in SLOW:
        return rng.choice([*SMALL, HUGE.get(name, "3")])
    return rng.choice([*VALUES, *(text for text in TEXTS if "\0" not in text and "\ud800" not in text)])


def flag_words(rng: random.Random, action: argparse.Action) -> list[str]:
    """Draw a flag with its values, or with too few or too many."""
    choices = [str(choice) for choice in action.choices or ()]
    flag = rng.choice(action.option_strings)
    if action.nargs == 0:
        return [flag, *rng.choice([[], [], ["x"]])]
    usual = {2: 2, "+": rng.choice([1, 2])}.get(action.nargs or 1, 1)
    number = usual if rng.random() < 0.9 else rng.randrange(4)
    values = [value_for(rng, action.dest, choices) for _ in range(number)]
    return [f"{flag}={values[0]}"] if len(values) == 1 and rng.random() < 0.2 else [flag, *values]


def base(stage: Stage, rng: random.Random, home: Path, script: str) -> list[str]:
    """Return a command that works."""
    if script == "counterfactual":
        return stage.query(home / "out")
    return stage.measure(home / "out") if script == "evaluate" else stage.train(home / "out")


def flags(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Add flags with absurd values to a command that works."""
    script = rng.choice([*PARSERS])
    parser = PARSERS[script]()
    known = [action for action in parser._actions if action.option_strings and action.dest not in PLAIN | CONTINUED]
    words = base(stage, rng, home, script)
    for _ in range(rng.choice([1, 1, 2, 3])):
        words += flag_words(rng, rng.choice(known))
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words)), rng.choice(["--nothing", "-x", "--", "extra", "", "--ou", "@x", "-"]))
    if rng.random() < 0.1:
        words.pop(rng.randrange(len(words)))
    return Case(script, [*words, *MACHINE] if "--device" not in words[-6:] else words)


def usual_values(parser: Parser, name: str) -> list[str]:
    """List some values that a setting may have."""
    kind = parser.settable().get(name)
    if kind is None:
        return ["1"]
    if get_type_hints(kind)[name] is bool:
        return ["on", "off"]
    return [*choices(kind, name)] or ["0.5", "1", "2"]


def settings(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Set anything to anything."""
    script = rng.choice([*PARSERS])
    parser = PARSERS[script]()
    names = [name for name in parser.settable() if name not in CONTINUED]
    words = base(stage, rng, home, script)
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice([*names * 3, "steps", "nothing", ""])
        value = value_for(rng, name, usual_values(parser, name))
        words += ["--set", rng.choice([f"{name}={value}"] * 20 + [name, f"{name}==", f" {name} = {value} "])]
    mechanism = rng.choice(["semantic", "vae", "spatial"])
    if script != "train" and mechanism != "semantic":
        words += ["--checkpoint", str(stage.made(mechanism) / "checkpoint.pt")]
    if script == "train":
        words += ["--mechanism", mechanism, "--part", rng.choice(["image", "image", "oracle", "attributes"])]
    if rng.random() < 0.2 and script != "train":
        words += ["--abduction", rng.choice(["dynamic", "guided", "residual"])]
    return Case(script, words)


def term(rng: random.Random, home: Path) -> str:
    """Draw one ``name=value`` of a query, from its grammar or nearly so."""
    if rng.random() < 0.6:
        return rng.choice(
            ["size=3", "size=+1", "volume=*0.5", "kind=+", "kind=disk, round", "striped=flip", "shift=@00.png"]
        )
    name = rng.choice([*COLUMNS[1:], *COLUMNS[1:], "image", "Size", "l1", "", " size "])
    number = rng.choice(["0", "1", "2.5", "-3", "1e39", "nan", "inf", "1e400", "", "x", "１", "0x1", "1_0", "9" * 400])
    sources = [
        f"{home}/in.csv:size",
        "values.csv:size",
        ":",
        "",
        "00.png",
        "01.png",
        "nothing.png",
        "/dev/zero:x",
        "/:x",
    ]
    sources += [f"{home}:size", "../few/00.png", "a" * 5000 + ".csv:x", "00.png:size", "\udcff.csv:x"]
    value = rng.choice(
        [number, f"+{number}", f"*{number}", "flip", rng.choice(KIND), f"@{rng.choice(sources)}", "-+*@"]
    )
    return f"{name}{rng.choice(['='] * 9 + ['', '==', ' = '])}{value}"


def queries(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Ask queries made of a grammar, with noise."""
    (home / "in.csv").write_text("image,size\n" + "".join(f"{i:02}.png,{i}\n" for i in range(4)))
    words = stage.query(home / "out")
    for _ in range(rng.choice([1, 1, 2, 3])):
        text = ",".join(term(rng, home) for _ in range(rng.choice([1, 1, 2, 3])))
        if rng.random() < 0.1:
            i = rng.randrange(len(text) + 1)
            text = text[:i] + rng.choice([",", "=", "@", " ", "\n", "é", "\udcff", "*"]) + text[i:]
        words += ["--do", text]
    if rng.random() < 0.3:
        words += ["--effect", *rng.sample(["total", "direct", "indirect", "total"], rng.randrange(1, 4))]
    if rng.random() < 0.2:
        words += ["--guidance", rng.choice(["do=2,others=1", "volume=2", "x=1", "do=1,do=2", "nan", "others=inf", "="])]
    if rng.random() < 0.2:
        words = words[1:] + ["--sample", "2"]
    return Case("counterfactual", words)


def fine(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Give a command that works, or one that works but for one thing."""
    script = rng.choice([*PARSERS])
    words = base(stage, rng, home, script)
    if rng.random() < 0.5:
        return Case(script, words, "fine")
    gone = {
        "--run": "nothing",
        "--out": os.devnull,
        "--graph": "nothing.json",
        "--data-dir": "nothing",
        "--device": "tpu",
    }
    flag = rng.choice([flag for flag in gone if flag in words])
    return Case(script, [gone[flag] if before == flag else word for before, word in zip(["", *words], words)], "wrong")


KINDS: Mapping[str, Callable[[Stage, random.Random, Path], Case]] = {
    "flags": flags,
    "settings": settings,
    "queries": queries,
    "fine": fine,
}
