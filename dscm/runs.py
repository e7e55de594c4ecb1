"""A run folder: every part of one causal model in its own sub-folder, and a README.txt that explains the whole."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dscm import assets
from dscm.errors import InputError
from dscm.files import atomic_path
from dscm.causal.graph import Graph

Part = Literal["image", "attributes", "oracle"]
GRAPH, DATA, README, CHECKPOINT = "graph.json", "data.json", "README.txt", "checkpoint.pt"
PREFACE = "A causal model of images, made by dscm: each part in the folder of its name, the graph in graph.json."


def find_part(run: Path, part: Part) -> Path | None:
    """Return the checkpoint of a part of a run; None where that part was not trained.

    Args:
        run: the folder.
        part: which.

    Raises:
        InputError: there is no such folder.
    """
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    path = run / part / CHECKPOINT
    return path if path.is_file() else None


def find_other(run: Path | None, part: Literal["attributes", "oracle"], graph: Graph) -> Path | None:
    """Return the checkpoint of a part that goes with an image's mechanism: the run's, or else the bundled one.

    Args:
        run: the folder; None where there is none.
        part: which.
        graph: the causal graph of the mechanism.
    """
    return (find_part(run, part) if run else None) or assets.find(part, graph)


def write_graph(run: Path, graph: Graph) -> None:
    """Write the graph of a run, which `read_graph` reads back.

    Raises:
        InputError: the run has another graph.
    """
    path, text = run / GRAPH, json.dumps(graph.spec, indent=1, ensure_ascii=False) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(f"{path}: is another graph than {graph.name}; name another --run")
    run.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_data(run: Path, data_dir: Path | None, csv: Sequence[Path]) -> None:
    """Write where the data set of a run lies, which `find_data` reads; a data set that is downloaded lies nowhere."""
    if data_dir:
        found = {"data_dir": str(data_dir.resolve()), "csv": [str(path.resolve()) for path in csv]}
        with atomic_path(run / DATA) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def find_data(run: Path | None) -> tuple[Path | None, tuple[Path, ...]]:
    """Return where the data set that a run was trained on lies, its folder and CSV files, as far as that is known.

    Raises:
        InputError: the file that says so is damaged.
    """
    if run is None or not (run / DATA).is_file():
        return None, ()
    try:
        found = json.loads((run / DATA).read_text(encoding="utf-8"))
        return Path(found["data_dir"]), tuple(map(Path, found["csv"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / DATA}: damaged; name the data set with --data-dir") from error


def describe(run: Path, title: str, text: str) -> None:
    """Write a chapter of a run's README.txt, in the place of an earlier one of the same title.

    Args:
        run: the folder.
        title: of the chapter, one line.
        text: what it says.
    """
    path = run / README
    old = path.read_text(encoding="utf-8") if path.exists() else PREFACE
    preface, *rest = re.split(r"^== (.*) ==$\n", old, flags=re.MULTILINE)
    chapters = dict(zip(rest[::2], (body.strip() for body in rest[1::2]))) | {title: text.strip()}
    whole = "\n\n".join([preface.strip(), *(f"== {title} ==\n\n{body}" for title, body in chapters.items())])
    with atomic_path(path) as temporary:
        temporary.write_text(whole + "\n", encoding="utf-8")
