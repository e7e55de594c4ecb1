"""What of a job about a folder is done already: which answers still are answers to what is asked."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from dscm.data.listing import SHEET
from dscm.folder.ledger import Item
from dscm.folder.names import Layout
from dscm.folder.queries import Query
from dscm.folder.reader import Reader
from dscm.folder.saved_noise import NoiseFiles


class Progress:
    """Tell which images need no answer any more.

    Args:
        reader: the reader of the images.
        queries: what is asked of each of them.
        layout: the names of their pictures.
        paste: whether the changes are blended into the images too.
        files: the files of their noise.
        explain: whether there is a page of every image.
    """

    def __init__(
        self,
        reader: Reader,
        queries: Sequence[Query],
        layout: Layout,
        paste: bool,
        files: NoiseFiles,
        explain: bool = False,
    ) -> None:
        self.explain = explain
        self.reader, self.queries, self.layout = reader, queries, layout
        self.paste, self.files, self.size = paste, files, files.batch

    def keys(self) -> dict[str, str]:
        """Return, for each image, a hash of all that its answers depend on besides the command."""
        return {name: self._key(i, name) for i, name in enumerate(self.reader.names)}

    def select(self, items: Mapping[str, Item]) -> set[str]:
        """Return the finished images whose pictures, contact sheet and noise are still there."""
        names = self.reader.names
        good = {name for i, name in enumerate(names) if name in items and self._is_there(i, items[name])}
        if self.files.by_batch:
            parts = [names[i : i + self.size] for i in range(0, len(names), self.size)]
            good = {name for part in parts if good.issuperset(part) for name in part}
        return good

    def _key(self, i: int, name: str) -> str:
        """Hash the state of an image's file, and the values that it has in tables."""
        try:
            state = (self.reader.folder / self.reader.paths[i]).stat()
            content: list[object] = [state.st_size, state.st_mtime_ns]
        except OSError:
            content = ["gone"]
        content.append({variable: values[i].item() for variable, values in self.reader.attributes.items()})
        content += [query.read_from_elsewhere(name) for query in self.queries]
        if self.files.by_batch:
            start = i - i % self.size
            content.append(self.reader.names[start : start + self.size])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _is_there(self, i: int, item: Item) -> bool:
        """Tell whether everything that was written of an image besides its rows is there."""
        asked = [query for query in self.layout.queries if query not in item["refused"]]
        path, first = self.reader.paths[i], i < self.size
        return (
            all(self.layout.is_there(path, query) for query in asked)
            and (not self.paste or all(self.layout.pasted(path, query).is_file() for query in asked))
            and (not self.explain or not asked or self.layout.page(path, ".html").is_file())
            and (not first or (self.layout.out / SHEET).is_file())
            and self.files.has(i // self.size)
        )
