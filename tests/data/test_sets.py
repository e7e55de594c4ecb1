"""Data sets as objects: the splits of each."""

from pathlib import Path

import pytest
from PIL import Image

from dscm.causal.graph_file import parse
from dscm.data.sets import Source, get_data_set
from dscm.errors import EmptySplit, InputError
from dscm.graphs import get_graph

SPEC = {
    "variables": {
        "size": {"type": "continuous"},
        "image": {"type": "image", "size": 8, "channels": 1, "parents": ["size"]},
    }
}


def write(folder: Path, splits: list[str]) -> Source:
    """Write an image for each of some splits, and return where they are."""
    for i in range(len(splits)):
        Image.new("L", (8, 8), 40 * i).save(folder / f"{i}.png")
    rows = [f"{i}.png,{i},{split}" for i, split in enumerate(splits)]
    (folder / "attributes.csv").write_text("\n".join(["image,size,split", *rows]))
    return Source(folder, folder / "cache")


def test_all_splits_are_loaded_and_none_shares_an_image(tmp_path: Path) -> None:
    data_set = get_data_set(parse(SPEC, Path("own.json")), write(tmp_path, ["test", "valid", "train", "valid"]))
    splits = data_set.load_all(8)
    assert {name: data["index"].tolist() for name, data in splits.items()} == {
        "train": [2], "valid": [1, 3], "test": [0]
    }  # fmt: skip


def test_only_the_split_for_validation_may_be_empty(tmp_path: Path) -> None:
    graph = parse(SPEC, Path("own.json"))
    assert get_data_set(graph, write(tmp_path, ["test", "train"])).load_all(8).keys() == {"train", "test"}
    for splits in (["test", "valid"], ["train", "valid"]):
        with pytest.raises(EmptySplit, match="no images"):
            get_data_set(graph, write(tmp_path, splits)).load_all(8)


def test_digits_for_validation_are_not_those_of_the_training(mnist_folder: Path, tmp_path: Path) -> None:
    """The last sixth of the training file; of too few there is none."""
    splits = get_data_set(get_graph("morphomnist-digit"), Source(mnist_folder, tmp_path)).load_all(28)
    assert {name: len(data["image"]) for name, data in splits.items()} == {"train": 40, "valid": 8, "test": 24}
    assert issubclass(EmptySplit, InputError)
