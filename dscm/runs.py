"""A run folder: the parts of one causal model in a folder each, and a README.txt that explains the whole."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from dscm import assets
from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.checkpoint import Part, Restored, restore_attributes, restore_oracle
from dscm.errors import InputError, option
from dscm.files import UNFINISHED, atomic_path, parse_json
from dscm.oracle import Oracle

GRAPH, DATA, README, CHECKPOINT = "graph.json", "data.json", "README.txt", "checkpoint.pt"
PREFACE = "A causal model of images, made by dscm: each part in the folder of its name, the graph in graph.json."


def find_part(run: Path, part: Part) -> Path | None:
    """Return the checkpoint of a part of a run; None where that part was not trained.

    Raises:
        InputError: there is no such folder.
    """
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    path = run / part / CHECKPOINT
    return path if path.is_file() else None


def find_image(source: Path | str, run: Path | None) -> tuple[Path, Path | None]:
    """Return the checkpoint of an image's mechanism, and the run that completes it.

    Args:
        source: a run folder, a checkpoint file, or the name of a bundled model, unless a run folder has the same name.
        run: the run folder whose other parts complete a checkpoint.

    Raises:
        InputError: there is no such model.
    """
    path, bundled = Path(source), assets.list_models()
    image = path / "image" / CHECKPOINT
    if str(source) in bundled and not image.is_file():
        return bundled[str(source)], run
    if path.is_dir():
        if run not in (None, path):
            raise InputError(f"{option('run')} {run}: {source} is a run folder already")
        if not image.is_file():
            raise InputError(f"{source}: no trained mechanism of the image is there; train it with part image")
        return image, path
    if not path.is_file():
        raise InputError(f"{source}: no such checkpoint or run folder; bundled models: {', '.join(bundled)}")
    home = path.parent.parent
    return path, run or (home if (home / GRAPH).is_file() else None)


def find_companion(run: Path | None, part: Literal["attributes", "oracle"], graph: Graph) -> Path | None:
    """Return the checkpoint of a part that belongs to an image's mechanism: the run's, or else the bundled one.

    Args:
        run: the folder; None where there is none.
        part: which.
        graph: the causal graph of the mechanism.
    """
    return (find_part(run, part) if run else None) or assets.find(part, graph)


def find_learned(
    path: Path | str | None, run: Path | None, graph: Graph, device: torch.device
) -> Restored[LearnedAttributes] | None:
    """Restore the learned mechanisms of a graph's attributes; None where it has none, or none are to be found.

    Args:
        path: the checkpoint; None takes the run's, or else the bundled one.
        run: the run folder; None where there is none.
        graph: the causal graph.
        device: the device of the mechanisms.

    Raises:
        InputError: a checkpoint is damaged, of another graph, or given for a graph without learned attributes.
    """
    if not graph.learned:
        if path:
            raise InputError(f"{option('attributes')} {path}: no mechanism of {graph.name} is learned")
        return None
    path = path or find_companion(run, "attributes", graph)
    if path is None:
        return None
    learned = restore_attributes(Path(path), device)
    if learned.graph.key != graph.key:
        raise InputError(f"{option('attributes')} {path}: fitted for {learned.graph.name}, not {graph.name}")
    return learned


def find_oracle(
    path: Path | str | None, run: Path | None, graph: Graph, device: torch.device
) -> Restored[Oracle] | None:
    """Restore the oracle of a graph's attributes; None where none is to be found. Arguments as `find_learned`.

    Raises:
        InputError: a checkpoint is damaged, does not predict every attribute that is not measured, or is given for a
            graph whose attributes are all measured.
    """
    if path and not graph.predicted:
        raise InputError(f"{option('oracle')} {path}: every attribute of {graph.name} is measured; leave it out")
    path = path or find_companion(run, "oracle", graph)
    if path is None:
        return None
    oracle = restore_oracle(Path(path), device)
    missing = [variable.name for variable in graph.predicted if variable.name not in oracle.model.sizes]
    if missing:
        known = ", ".join(oracle.model.sizes) or "nothing"
        raise InputError(f"{option('oracle')} {path}: predicts {known}; {graph.name} needs {', '.join(missing)}")
    return oracle


def write_graph(run: Path, graph: Graph) -> None:
    """Write the graph of a run, for `read_graph`.

    Raises:
        InputError: the run has another graph.
    """
    path, text = run / GRAPH, json.dumps(graph.spec, indent=1, ensure_ascii=False) + "\n"
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
        raise InputError(f"{path}: is another graph than {graph.name}; name another {option('run')}")
    run.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_data(run: Path, data_dir: Path | None, csv: Sequence[Path]) -> None:
    """Write the paths of a run's data set, for `find_data`; a data set that is downloaded has none."""
    if data_dir:
        paths = {"data_dir": str(data_dir.resolve()), "csv": [str(path.resolve()) for path in csv]}
        with atomic_path(run / DATA) as temporary:
            temporary.write_text(json.dumps(paths, indent=1) + "\n", encoding="utf-8")


def find_data(run: Path | None) -> tuple[Path | None, tuple[Path, ...]]:
    """Return the folder and the CSV files of the data set that a run was trained on, as far as they are known.

    Raises:
        InputError: the file that names them is damaged.
    """
    if run is None or not (run / DATA).is_file():
        return None, ()
    try:
        paths = parse_json((run / DATA).read_text(encoding="utf-8"))
        return Path(paths["data_dir"]), tuple(map(Path, paths["csv"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / DATA}: damaged; name the data set with {option('data_dir')}") from error


def describe(run: Path, title: str, text: str) -> None:
    """Write a chapter of a run's README.txt, replacing an earlier one of the same title.

    Args:
        run: the folder.
        title: the title of the chapter, one line.
        text: the text of the chapter.
    """
    path = run / README
    old = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else PREFACE
    preface, *rest = re.split(r"^== (.*) ==$\n", old, flags=re.MULTILINE)
    chapters = dict(zip(rest[::2], (body.strip() for body in rest[1::2]))) | {title: text.strip()}
    whole = "\n\n".join([preface.strip(), *(f"== {title} ==\n\n{body}" for title, body in chapters.items())])
    with atomic_path(path) as temporary:
        temporary.write_text(whole + "\n", encoding="utf-8", errors="surrogateescape")


def check_apart(folder: Path, images: Path | None, paths: Sequence[Path] = ()) -> None:
    """Refuse the folder of the images as an output folder: what is written there would be images of it the next time.

    Args:
        folder: the output folder.
        images: the folder of the images; None where there is none.
        paths: the images, relative to their folder.

    Raises:
        InputError: they are the same folder, or the output folder holds some of the images.
    """
    if images and folder.is_dir() and images.is_dir() and folder.samefile(images):
        raise InputError(f"{option('out')} {folder}: is the folder of the images; name another")
    out, home = Path(os.path.realpath(folder)), Path(os.path.realpath(images or folder))  # a loop of links has one too
    if images and home in out.parents:
        inner = out.relative_to(home)
        for path in (path for path in paths if inner in path.parents):
            raise InputError(f"{option('out')} {folder}: holds the image {path}; name another folder")


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse an output folder that has content; nothing is made yet, since the rest of the input may be wrong too.

    Args:
        folder: the folder.
        overwrite: allow content; files of the same names are replaced, others stay.

    Raises:
        InputError: it is a file, or it has content and ``overwrite`` is off.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{option('out')} {folder}: a file of that name exists")
    if folder.is_dir() and any(not path.name.startswith(UNFINISHED) for path in folder.iterdir()) and not overwrite:
        raise InputError(
            f"{option('out')} {folder}: the folder is not empty; name another, or write into it with "
            f"{option('overwrite')}"
        )
