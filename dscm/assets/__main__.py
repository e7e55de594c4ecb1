"""Bundle a trained run: ``python -m dscm.assets RUN NAME`` writes its weights in half precision and what made them."""

import argparse
import json
from pathlib import Path
from typing import Any

import dscm
from dscm import checkpoint
from dscm.assets import FOLDER
from dscm.errors import exit_on_input_error
from dscm.files import atomic_path

DEFAULTS = {"p_null": 0.1, "seed": 0}  # flags not worth repeating in the command


def main() -> None:
    """Export one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run of train.py")
    parser.add_argument("name", help="of the asset: semantic, spatial or oracle")
    args = parser.parse_args()
    kind = "oracle" if args.name == "oracle" else "image"
    content = checkpoint.read(args.run / "checkpoint.pt", kind)
    target = FOLDER / f"{content['graph']}-{args.name}.pt"
    checkpoint.export(args.run / "checkpoint.pt", kind, target)
    final = json.loads((args.run / "log.jsonl").read_text().splitlines()[-1])
    about = {
        "command": command(content),
        "data": "MNIST's 60,000 training digits, redrawn by dscm.data.morphomnist",
        "seed": content["settings"]["seed"],
        "steps": content["step"],
        "minutes": round(content["seconds"] / 60, 1),
        "program": f"dscm {dscm.__version__}",
        "test": final.get("final", {}),
    }
    text = json.dumps(about, indent=1, ensure_ascii=False)
    with atomic_path(target.with_suffix(".json")) as temporary:
        temporary.write_text(text + "\n")
    print(text)


def command(content: dict[str, Any]) -> str:
    """Write the command that trains the checkpoint again."""
    settings = content["settings"]
    flags = {"data": content["graph"], "part": settings["part"], "preset": settings["preset"], "steps": content["step"]}
    if settings["part"] == "image":
        flags["mechanism"] = settings["mechanism"]
    optional = ("p_null", "beta", "prior", "batch", "learning_rate", "precision", "size", "seed")
    flags |= {name: settings[name] for name in optional if settings.get(name) not in (None, DEFAULTS.get(name))}
    words = [f"--{name.replace('_', '-')} {value}" for name, value in flags.items()]
    return f"python train.py {' '.join(words)} --out RUN"


if __name__ == "__main__":
    with exit_on_input_error():
        main()
