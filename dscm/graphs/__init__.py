"""Causal graphs from JSON files: the built-in ones in ``assets/graphs``, and those of users."""

import difflib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dscm.causal.graph import Graph
from dscm.causal.graph_file import parse
from dscm.errors import InputError
from dscm.files import parse_json

FOLDER = Path(__file__).parents[1] / "assets" / "graphs"
FACES = ("celeba", "celebahq")  # graphs of faces, whose data sets have forty attributes
CELEBA_ATTRIBUTES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry
Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young""".split()


def get_graph(key: str | Mapping[str, Any]) -> Graph:
    """Return the graph of a key, as checkpoints hold it.

    Args:
        key: the name of a built-in graph, where ``celeba:NAME,NAME…``, as ``celebahq:…``, selects attributes of faces;
            or the content of a graph file.

    Raises:
        InputError: there is no such graph or attribute, or as `parse`.
    """
    if not isinstance(key, str):
        return parse(key, Path("graph.json"))
    base, colon, attributes = key.partition(":")
    if base not in GRAPHS:
        raise InputError(f"unknown graph '{base}'; known: {', '.join(GRAPHS)}")
    if not colon:
        return GRAPHS[key]
    if base not in FACES:
        raise InputError(f"graph '{key}': only {' and '.join(FACES)} take a list of attributes")
    return _choose_faces(key, GRAPHS[base], attributes.split(","))


def read_graph(path: Path) -> Graph:
    """Read a user's graph file.

    Args:
        path: a JSON file as the README describes. A copy of a built-in graph is that graph.

    Raises:
        InputError: it cannot be read, is not JSON, or as `parse`.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise InputError(f"{path}: is not a file")
        text = path.read_text(encoding="utf-8-sig")  # Windows marks UTF-8
        spec = parse_json(text, partial(_refuse_duplicates, path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    graph = parse(spec, path, text)
    known = GRAPHS.get(graph.name)
    return known if known and known.spec == graph.spec else graph


def _refuse_duplicates(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, whose keys must differ."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{path}: {key!r} is there twice")
    return dict(pairs)


def _choose_faces(name: str, base: Graph, attributes: list[str]) -> Graph:
    """Make a graph of some of CelebA's attributes, with the edges and the interventions that ``base`` has among them.

    An attribute with parents there has a learned mechanism; the others are uniform roots.
    """
    for attribute in attributes:
        if attribute not in CELEBA_ATTRIBUTES:
            near = difflib.get_close_matches(attribute, CELEBA_ATTRIBUTES) or CELEBA_ATTRIBUTES
            raise InputError(f"graph '{name}': no attribute '{attribute}'; try {', '.join(near)}")
        if attributes.count(attribute) > 1:
            raise InputError(f"graph '{name}': {attribute} is named twice")
    known = {variable.name: variable.parents for variable in base.attributes}
    variables: dict[str, Any] = {}
    for attribute in attributes:
        parents = [parent for parent in known.get(attribute, ()) if parent in attributes]
        cause: dict[str, Any] = {"parents": parents} if parents else {"equation": {"uniform": {}}}
        variables[attribute] = {"type": "binary", **cause}
    groups = {attribute: base.interventions.get(attribute, (attribute,)) for attribute in attributes}
    together = {first: [other for other in group if other in attributes] for first, group in groups.items()}
    led = {other for group in together.values() for other in group[1:]}
    interventions = [group for first, group in together.items() if first not in led]
    variables["image"] = {"type": "image", "size": base.image_size, "channels": 3, "parents": attributes}
    spec = {"name": name, "data": base.data_set, "interventions": interventions, "variables": variables}
    return parse(spec, Path(name), built_in=True)


def _read_built_in(path: Path) -> Graph:
    """Read a graph file of this package."""
    return parse(json.loads(path.read_text(encoding="utf-8")), path, built_in=True)


GRAPHS: Mapping[str, Graph] = {
    path.stem: _read_built_in(path) for path in sorted(FOLDER.glob("*.json"), key=lambda path: path.stem)
}
