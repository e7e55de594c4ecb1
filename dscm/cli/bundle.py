"""Bundle a trained part with the package: ``python -m dscm.cli.bundle RUN NAME`` writes half-precision weights."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dscm import checkpoint
from dscm.assets import FOLDER, AssetName
from dscm.data.phantoms.layouts import read_recipe
from dscm.errors import InputError, option
from dscm.files import __version__, atomic_path
from dscm.graphs import GRAPHS

PARTS: Mapping[AssetName, checkpoint.Part] = {
    "semantic": "image",
    "spatial": "image",
    "attributes": "attributes",
    "oracle": "oracle",
}
FLAGS = ("patch", "batch", "precision", "size", "seed", "fit")
PAIRS = (
    *("p_null", "beta", "prior", "learning_rate", "likelihood", "null_apart"),
    *("clean_background", "mixture", "balance", "gamma", "kappa", "only_prior", "pairs", "obey", "shift", "every"),
    *("independent", "keep"),
)
DEFAULTS = {  # left out of the command
    "p_null": 0.1, "seed": 0, "fit": "stretch", "clean_background": False, "mixture": True,
}  # fmt: skip
REAL = {  # by data set, what a training without a synthetic one learned from, and its terms
    "morphomnist": "the first 50,000 of MNIST's training digits, redrawn by dscm.data.morphomnist",
    "celeba": "aligned faces of CelebA (Liu et al. 2015), split by person; for non-commercial research only",
}


def main() -> None:
    """Parse the command line and export one run."""
    parser = argparse.ArgumentParser(prog="python -m dscm.cli.bundle", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run of train.py")
    parser.add_argument("name", choices=PARTS, help="the part that it trained")
    parser.add_argument("--data-dir", type=Path, help="the synthetic data set of the training (default: real)")
    args = parser.parse_args()
    try:
        print(bundle(args.run / "checkpoint.pt", args.name, args.data_dir))
    except InputError as error:
        parser.exit(2, f"error: {error.typed(lambda name: '--' + name.replace('_', '-'))}\n")


def bundle(path: Path, name: AssetName, data_dir: Path | None) -> str:
    """Write the weights of a checkpoint and a JSON file of their origin into the package.

    Args:
        path: the checkpoint.
        name: the part that it holds.
        data_dir: as for `describe_data`.

    Returns:
        The content of the JSON file.

    Raises:
        InputError: the checkpoint is damaged or holds another part, or as `describe_data`.
    """
    content = checkpoint.read(path, PARTS[name])
    data = describe_data(content["graph"], data_dir)
    target = FOLDER / f"{content['graph']}-{name}.pt"
    origin = {
        "command": training_command(content),
        "data": data,
        "seed": content["settings"]["seed"],
        "steps": content["step"],
        "minutes": round(content["seconds"] / 60, 1),
        "program": f"dscm {__version__}",
        "test": content["test"],
    }
    checkpoint.export(path, PARTS[name], target)
    text = json.dumps(origin, indent=1, ensure_ascii=False)
    with atomic_path(target.with_suffix(".json")) as temporary:
        temporary.write_text(text + "\n")
    return text


def describe_data(name: str, folder: Path | None) -> str:
    """Describe the training data: real ones with their terms, or the command that wrote a synthetic data set.

    Args:
        name: the graph's.
        folder: of the synthetic data set; None is real data.

    Raises:
        InputError: the folder holds no synthetic data set of this version, or nothing is known of the real data.
    """
    if folder is None:
        known = GRAPHS[name].data_set if name in GRAPHS else name
        if known not in REAL:
            raise InputError(f"{option('data_dir')}: needed for {name}; data without a folder: {', '.join(REAL)}")
        return REAL[known]
    recipe = read_recipe(folder)
    if recipe is None:
        raise InputError(f"{option('data_dir')} {folder}: not written by this version of dscm.data.phantoms")
    drawn = f" --n {recipe.n}" if recipe.n else ""
    drawn += f" --drawn-versions {recipe.drawn_versions}" if recipe.drawn_versions > 1 else ""
    real = f" --on MAMMOGRAMS --versions {recipe.versions}" if recipe.real else ""
    return f"python -m dscm.cli.phantoms {recipe.kind}{drawn}{real} --seed {recipe.seed} --out D"


def training_command(content: Mapping[str, Any]) -> str:
    """Return the command that trains a checkpoint again."""
    settings = content["settings"]
    flags = {"data": content["graph"], "part": settings["part"], "preset": settings["preset"], "steps": content["step"]}
    if settings["part"] == "image":
        flags["mechanism"] = settings["mechanism"]
    chosen = {name: value for name, value in settings.items() if value not in (None, DEFAULTS.get(name))}
    flags |= {name: chosen[name] for name in FLAGS if name in chosen}
    words = [f"--{name} {value}" for name, value in flags.items()]
    words += [f"--set {name}={_write(chosen[name])}" for name in PAIRS if name in chosen]
    return f"python train.py {' '.join(words)} --out RUN"


def _write(value: Any) -> str:
    """Write the value of a setting as it is typed."""
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
