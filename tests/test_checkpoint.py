"""Checkpoints: what is saved comes back, and nothing else is accepted or run."""

import pickle
from pathlib import Path

import pytest
import torch

from dscm import checkpoint
from dscm.errors import InputError
from dscm.files import atomic_path
from dscm.graphs import get_graph

CPU = torch.device("cpu")
CONFIG = {"size": 8, "unet": {"channels": 8, "multipliers": [1, 2], "patch": 2}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of a random spatial mechanism."""
    torch.manual_seed(0)
    model = checkpoint.build("image", "morphomnist", CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    checkpoint.save(tmp_path / "a.pt", "image", model, "morphomnist", CONFIG, {"seed": 0})
    return tmp_path / "a.pt"


def counterfactual(path: Path) -> torch.Tensor:
    """Answer one query with a checkpoint."""
    model, content = checkpoint.restore(path, "image", CPU)
    scm = get_graph(content["graph"]).scm(model)
    return scm.sample(3, torch.Generator().manual_seed(0))["image"]


def test_a_restored_model_gives_the_same_bytes_and_export_halves_it(saved: Path) -> None:
    assert torch.equal(counterfactual(saved), counterfactual(saved))
    small = saved.with_name("half.pt")
    checkpoint.export(saved, "image", small)
    assert small.stat().st_size < 0.75 * saved.stat().st_size
    torch.testing.assert_close(counterfactual(small), counterfactual(saved), rtol=0, atol=0.05)


class Exploit:
    """An object that makes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        """Ask the unpickler to make the file."""
        return Path.touch, (self.path,)


def damage(path: Path, how: str) -> None:
    """Spoil a checkpoint in one way."""
    content = torch.load(path, weights_only=True)
    match how:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(path.read_bytes()[:-500])
        case "garbage":
            path.write_bytes(bytes(range(256)) * 20)
        case "other":
            torch.save({"weights": torch.ones(3)}, path)
        case "format":
            torch.save(content | {"format": 99}, path)
        case "weights":
            content["model"].popitem()
            torch.save(content, path)
        case "code":
            path.write_bytes(pickle.dumps(Exploit(path.with_name("exploited"))))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", "truncated or not"),
        ("truncated", "truncated or not"),
        ("garbage", "not a checkpoint"),
        ("other", "not a checkpoint of dscm"),
        ("format", "format 99"),
        ("weights", "do not fit"),
        ("code", "was not run"),
    ],
)
def test_damaged_checkpoints_are_refused_in_one_line(saved: Path, how: str, message: str) -> None:
    damage(saved, how)
    with pytest.raises(InputError, match=message) as error:
        checkpoint.restore(saved, "image", CPU)
    assert str(saved) in str(error.value) and "\n" not in str(error.value)
    assert not saved.with_name("exploited").exists()


def test_missing_and_of_the_wrong_kind(saved: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.restore(saved.with_name("none.pt"), "image", CPU)
    with pytest.raises(InputError, match="kind 'image'; 'oracle'"):
        checkpoint.restore(saved, "oracle", CPU)


def test_average_follows_the_formula() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    ema = checkpoint.EMA(model, 0.9)
    torch.nn.init.constant_(model.weight, 2.0)
    ema.update(model, 1)
    assert ema.average.weight.item() == pytest.approx(1 + (1 - 2 / 11))
    ema.update(model, 1000)
    assert ema.average.weight.item() == pytest.approx(0.9 * (2 - 2 / 11) + 0.1 * 2)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
