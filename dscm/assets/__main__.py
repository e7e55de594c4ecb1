"""Bundle a trained run: ``python -m dscm.assets RUN NAME`` writes its weights in half precision and what made them."""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import dscm
from dscm import checkpoint
from dscm.assets import FOLDER, Part
from dscm.data.phantoms.layouts import read_recipe
from dscm.errors import InputError, exit_on_input_error
from dscm.files import atomic_path

SWITCHES = ("null_apart", "keep_aspect", "clean_background")
DEFAULTS = {"p_null": 0.1, "seed": 0}  # flags not worth repeating in the command
DIGITS = "MNIST's 60,000 training digits, redrawn by dscm.data.morphomnist"


def main() -> None:
    """Export one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run of train.py")
    parser.add_argument("name", choices=get_args(Part), help="of the asset")
    parser.add_argument("--data-dir", type=Path, help="the drawn set that it was trained on (default: digits)")
    args = parser.parse_args()
    kind = args.name if args.name in checkpoint.KINDS else "image"
    content = checkpoint.read(args.run / "checkpoint.pt", kind)
    target = FOLDER / f"{content['graph']}-{args.name}.pt"
    about = {
        "command": command(content),
        "data": describe_data(args.data_dir),
        "seed": content["settings"]["seed"],
        "steps": content["step"],
        "minutes": round(content["seconds"] / 60, 1),
        "program": f"dscm {dscm.__version__}",
        "test": content["test"],
    }
    checkpoint.export(args.run / "checkpoint.pt", kind, target)
    text = json.dumps(about, indent=1, ensure_ascii=False)
    with atomic_path(target.with_suffix(".json")) as temporary:
        temporary.write_text(text + "\n")
    print(text)


def describe_data(folder: Path | None) -> str:
    """Say what a model was trained on: digits, or a folder that `dscm.data.phantoms` wrote.

    Raises:
        InputError: the folder was not written there.
    """
    if folder is None:
        return DIGITS
    recipe = read_recipe(folder)
    if recipe is None:
        raise InputError(f"--data-dir {folder}: was not drawn by this version of dscm.data.phantoms")
    return f"python -m dscm.data.phantoms {recipe.kind} --n {recipe.n} --seed {recipe.seed} --out D"


def command(content: dict[str, Any]) -> str:
    """Write the command that trains the checkpoint again."""
    settings = content["settings"]
    flags = {"data": content["graph"], "part": settings["part"], "preset": settings["preset"], "steps": content["step"]}
    if settings["part"] == "image":
        flags["mechanism"] = settings["mechanism"]
    optional = ("patch", "p_null", "beta", "prior", "batch", "learning_rate", "precision", "size", "seed", "likelihood")
    flags |= {name: settings[name] for name in optional if settings.get(name) not in (None, DEFAULTS.get(name))}
    words = [f"--{name.replace('_', '-')} {value}" for name, value in flags.items()]
    words += [f"--{name.replace('_', '-')}" for name in SWITCHES if settings.get(name)]
    return f"python train.py {' '.join(words)} --out RUN"


if __name__ == "__main__":
    with exit_on_input_error():
        main()
