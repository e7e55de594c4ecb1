"""Where a training reads and writes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dscm import runs
from dscm.causal.graph import Graph
from dscm.checkpoint import Part
from dscm.data.cache import user_cache_dir
from dscm.data.framing import Framing
from dscm.data.sets import Source
from dscm.errors import InputError, option
from dscm.graphs import get_graph, read_graph


@dataclass(frozen=True)
class Place:
    """The data set, the graph and the folder of a training, as the user names them.

    Args:
        data, graph, data_dir, csv, cache_dir, out, run: as `dscm.training.run.train` takes them.

    Raises:
        InputError: both folders are given, or neither.
    """

    data: str | None = None
    graph: Graph | Path | str | None = None
    data_dir: Path | str | None = None
    csv: Sequence[Path | str] = ()
    cache_dir: Path | str | None = None
    out: Path | str | None = None
    run: Path | str | None = None

    def __post_init__(self) -> None:
        """Check that the training has one folder."""
        if (self.out is None) == (self.run is None):
            raise InputError(f"the folder of the training: give either {option('out')} or {option('run')}")

    @property
    def whole(self) -> Path | None:
        """Return the folder of the whole model, where there is one."""
        return None if self.run is None else Path(self.run)

    def folder(self, part: Part) -> Path:
        """Return the folder of the training of a part."""
        return Path(self.run) / part if self.run is not None else Path(self.out or "")

    def choose_graph(self) -> Graph:
        """Return the causal graph.

        Raises:
            InputError: there is no such graph, the file is wrong, or it contradicts ``data``.
        """
        graph = self.graph
        if graph is None and self.data is None and self.whole and (self.whole / runs.GRAPH).exists():
            graph = self.whole / runs.GRAPH
        if graph is None:
            if self.data == "folder":
                raise InputError(f"{option('data')} folder: give its causal graph with {option('graph')}")
            return get_graph(self.data or "morphomnist")
        chosen = graph if isinstance(graph, Graph) else read_graph(Path(graph))
        if self.data not in (None, chosen.data_set):
            name = graph.name if isinstance(graph, Graph) else graph
            raise InputError(f"{option('data')} {self.data}: {name} is a graph for {option('data')} {chosen.data_set}")
        return chosen

    def find_source(self, framing: Framing, skip_missing: bool, mixture: bool) -> Source:
        """Return the place of the data set, and how it is read.

        Args:
            framing: how images become squares.
            skip_missing: whether to skip any number of absent or broken images.
            mixture: of Morpho-MNIST, whether a fifth each of thickness, slant and intensity is uniform.
        """
        known_dir, known_csv = (Path(self.data_dir), ()) if self.data_dir is not None else runs.find_data(self.whole)
        cache_dir = user_cache_dir() if self.cache_dir is None else Path(self.cache_dir)
        csv = tuple(map(Path, self.csv)) or known_csv
        return Source(known_dir, cache_dir, csv, framing, skip_missing, os.cpu_count() or 1, mixture)

    def call(self, choices: Mapping[str, Any]) -> str:
        """Write the call of `dscm.train` with these settings."""
        given = {name: value for name, value in (vars(self) | dict(choices)).items() if value not in (None, ())}
        if isinstance(self.graph, Graph):
            given["graph"] = self.graph.name
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
        return f"dscm.train({', '.join(f'{name}={value!r}' for name, value in plain.items())})"
