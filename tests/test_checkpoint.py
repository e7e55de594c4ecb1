"""Checkpoints: written whole, read without running anything, and refused in one line."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from torch import nn

from dscm import checkpoint
from dscm.causal.support import Support
from dscm.errors import InputError
from dscm.graphs import get_graph

CPU = torch.device("cpu")
GRAPH = get_graph("morphomnist")
CONFIG = {
    "size": 8,
    "code_dim": 3,
    "prior": "conditional",
    "unet": {"channels": 8, "multipliers": [1, 2], "patch": 2},
    "encoder": {"channels": 8, "multipliers": [1, 2], "patch": 2},
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A random semantic mechanism."""
    model, generator = checkpoint.build("image", GRAPH, CONFIG), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        model.scaling.fit(GRAPH.scm().sample(50, generator))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def content(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its checkpoint, with the state of a run."""
    path, rest = tmp_path_factory.mktemp("content") / "checkpoint.pt", {}
    rest["raw"] = {name: value.clone() for name, value in model.state_dict().items()}
    rest["optimiser"] = {"exp_avg": torch.ones(5)}
    checkpoint.save(path, "image", model, GRAPH, CONFIG, {"seed": 0}, step=7, **rest)
    return path.read_bytes()


@pytest.fixture
def path(content: bytes, tmp_path: Path) -> Path:
    """A copy of the checkpoint."""
    (tmp_path / "checkpoint.pt").write_bytes(content)
    return tmp_path / "checkpoint.pt"


@torch.no_grad()
def counterfactual(model: nn.Module) -> torch.Tensor:
    """Answer one query."""
    scm, generator = GRAPH.scm(model), torch.Generator().manual_seed(0)
    obs = GRAPH.scm().sample(3, generator)
    obs["image"] = torch.rand(3, 1, 8, 8, generator=generator) * 2 - 1
    return scm.counterfactual(obs, {"digit": 3, "thickness": 4.0})["image"]


def refuse(path: Path) -> str:
    """Check that a file is refused in one line that names it, and return the line."""
    with pytest.raises(InputError) as error:
        checkpoint.restore_image(path, CPU)
    line = str(error.value)
    assert str(path) in line and "\n" not in line and len(line) < 400
    return line


def test_restored_model_gives_the_same_counterfactual_byte_for_byte(model: nn.Module, path: Path) -> None:
    """As the model that was saved; it is frozen and in evaluation mode, and the rest comes with it."""
    restored = checkpoint.restore_image(path, CPU)
    assert torch.equal(counterfactual(restored.model), counterfactual(model))
    assert not restored.model.training and not any(p.requires_grad for p in restored.model.parameters())
    assert restored.config == CONFIG and restored.settings == {"seed": 0} and restored.step == 7
    assert restored.graph is GRAPH and restored.path == path and restored.seconds is None
    assert restored.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_saving_again_keeps_the_old_file_until_the_new_one_is_whole(
    model: nn.Module, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that breaks off leaves the checkpoint of before and nothing beside it."""

    def break_off(content: dict, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, "image", model, GRAPH, CONFIG, {})
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_export_keeps_half_precision_weights_and_no_state_of_the_run(model: nn.Module, path: Path) -> None:
    """Weights are rounded to half, restored as float32, and the run's state is left behind."""
    small = path.with_name("small.pt")
    checkpoint.export(path, "image", small)
    restored, content = checkpoint.restore_image(small, CPU).model, checkpoint.read(small, "image")
    assert small.stat().st_size < 0.4 * path.stat().st_size
    assert content.keys() == {"format", "program", "kind", "graph", "config", "settings", "step", "model"}
    for name, tensor in restored.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].half().float()) and tensor.dtype == torch.float32


def test_what_training_data_said_travels_with_the_weights(model: nn.Module, path: Path) -> None:
    """Added to an older checkpoint, which says nothing, it changes no weight, and exporting keeps it."""
    assert checkpoint.restore_image(path, CPU).support is None
    data = GRAPH.scm().sample(40, torch.Generator().manual_seed(0))
    variables = checkpoint.list_supported("image", GRAPH)
    support, before = Support.fit(variables, data, torch.Generator().manual_seed(0)), checkpoint.read(path, "image")
    checkpoint.add_support(path, "image", support)
    after, small = checkpoint.read(path, "image"), path.with_name("small.pt")
    assert after.keys() - before.keys() == {"support"} and after["step"] == before["step"]
    assert all(torch.equal(after["model"][name], value) for name, value in before["model"].items())
    checkpoint.export(path, "image", small)
    for file in (path, small):
        restored = checkpoint.restore_image(file, CPU).support
        assert restored is not None and torch.equal(restored.quantile(data), support.quantile(data))
    checkpoint.save(path, "image", model, GRAPH, CONFIG, {}, support)
    assert checkpoint.restore_image(path, CPU).support is not None


@pytest.mark.parametrize("support", [5, {}, {"names": ["thickness"]}, {"rows": torch.zeros(2, 2)}])
def test_damaged_support_is_refused(path: Path, support: object) -> None:
    torch.save(torch.load(path, weights_only=True) | {"support": support}, path)
    assert "what it says of its training data" in refuse(path)


def test_a_checkpoint_describes_the_variables_that_it_knows() -> None:
    """Of an image its parents, of attributes all, and nothing of an oracle."""
    graph = get_graph("celebahq")
    assert [v.name for v in checkpoint.list_supported("image", graph)] == list(graph.image_parents)
    assert checkpoint.list_supported("attributes", graph) == list(graph.attributes)
    assert checkpoint.list_supported("oracle", graph) == []


def test_export_refuses_what_read_refuses(path: Path) -> None:
    """And writes nothing."""
    with pytest.raises(InputError):
        checkpoint.export(path, "oracle", path.with_name("small.pt"))
    assert list(path.parent.iterdir()) == [path]


def test_image_takes_only_the_parents_of_its_graph() -> None:
    """The condition is as wide as the encoded parents: ten classes for the digit alone."""
    config = {"size": 8, "unet": {"channels": 8, "multipliers": [1]}}
    assert checkpoint.build("image", get_graph("morphomnist-digit"), config).null.shape == (10,)
    assert checkpoint.build("image", get_graph("colour-morphomnist"), config).shape == (3, 8, 8)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(path: Path, share: float) -> None:
    """At whatever byte the file ends."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "not a checkpoint" in refuse(path)


def test_flipped_bits_are_refused(path: Path) -> None:
    """Even within a weight, where the reader of pickles would not notice."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))
    assert "not a checkpoint" in refuse(path)


def test_weights_that_are_not_finite_are_refused(path: Path) -> None:
    """A run that diverged must not make images of nothing."""
    content = torch.load(path, weights_only=True)
    content["model"]["null"][0] = torch.nan
    torch.save(content, path)
    assert "not finite" in refuse(path)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(tmp_path: Path, seed: int) -> None:
    """Whatever they look like to a reader of pickles."""
    file = tmp_path / "random.pt"
    size = (1, 10, 100, 3000)[seed % 4]
    file.write_bytes(bytes(torch.randint(256, (size,), generator=torch.Generator().manual_seed(seed)).tolist()))
    assert "not a checkpoint" in refuse(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "checkpoint format 0"),
        ({"format": 2}, "checkpoint format 2"),
        ({"kind": "oracle"}, "kind 'oracle'; 'image'"),
        ({"graph": "nonsense"}, "unknown graph"),
        ({"config": CONFIG | {"nonsense": 1}}, "do not fit"),
        ({"config": CONFIG | {"schedule": "nonsense"}}, "do not fit"),
        ({"config": CONFIG | {"prediction": "x0"}}, "do not fit"),
        ({"config": CONFIG | {"code_dim": 4}}, "do not fit"),
        ({"config": CONFIG | {"unet": {"channels": 18, "multipliers": [1]}}}, "do not fit"),
        ({"config": [1]}, "do not fit"),
        ({"model": {}}, "do not fit"),
        ({"model": [1, 2]}, "do not fit"),
    ],
)
def test_changed_content_is_refused(path: Path, change: dict, message: str) -> None:
    """Every entry that decides is checked."""
    torch.save(torch.load(path, weights_only=True) | change, path)
    assert message in refuse(path)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "complex", "sparse"])
def test_weights_must_fit_exactly(path: Path, change: str) -> None:
    """One that is missing, one too many, one of another shape, numbers that are not real, or not all there."""
    content = torch.load(path, weights_only=True)
    if change == "missing":
        del content["model"]["null"]
    elif change in ("complex", "sparse"):
        null = content["model"]["null"]
        content["model"]["null"] = null * 1j if change == "complex" else null.to_sparse()
    else:
        content["model"]["null" if change == "shape" else "another"] = torch.ones(1)
    torch.save(content, path)
    assert "do not fit" in refuse(path)


@pytest.mark.parametrize("key", ["format", "kind", "graph", "config", "model"])
def test_incomplete_content_is_refused(path: Path, key: str) -> None:
    """Plain data without one of the entries is no checkpoint."""
    content = torch.load(path, weights_only=True)
    del content[key]
    torch.save(content, path)
    assert "not a checkpoint of dscm" in refuse(path)


def test_missing_file_directory_and_other_data_are_refused(tmp_path: Path) -> None:
    """Each for what it is."""
    assert "no such checkpoint" in refuse(tmp_path / "none.pt")
    assert "no such checkpoint" in refuse(tmp_path)
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    assert "not a checkpoint of dscm" in refuse(tmp_path / "tensor.pt")
    (tmp_path / "text.pt").write_text("a readme\n")
    assert "not a checkpoint" in refuse(tmp_path / "text.pt")


class Exploit:
    """An object whose unpickling makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        """Ask the unpickler to make a folder."""
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("container", ["pickle", "torch", "inside a checkpoint"])
def test_code_in_a_file_is_not_run(path: Path, container: str) -> None:
    """Whether bare, in PyTorch's archive or in an otherwise valid checkpoint; an ordinary unpickler would run it."""
    exploit = Exploit(path.with_name("ran"))
    if container == "pickle":
        path.write_bytes(pickle.dumps(exploit))
    elif container == "torch":
        torch.save(exploit, path)
    else:
        torch.save(torch.load(path, weights_only=True) | {"settings": exploit}, path)
    assert "not run" in refuse(path)
    assert not exploit.target.exists()
    pickle.loads(pickle.dumps(exploit))  # the proof that it would have run
    assert exploit.target.exists()


def test_settings_that_were_chosen_for_a_model_come_with_it(path: Path) -> None:
    """In place of the usual ones; a query that chooses others gets these."""
    usual = checkpoint.restore_image(path, CPU).model.sampling
    checkpoint.add_sampling(path, {"guidance": "do=3", "guidance_interval": (2.0, 50.0)})
    model = checkpoint.restore_image(path, CPU).model
    assert str(model.sampling.weights) == "do=3,others=1" and model.sampling.guidance_interval == (2.0, 50.0)
    assert model.sampling.steps == usual.steps
    assert model.using(guidance=1.0).sampling.weights.trivial
    checkpoint.export(path, "image", path.with_name("bundled.pt"))
    assert checkpoint.restore_image(path.with_name("bundled.pt"), CPU).model.sampling == model.sampling


@pytest.mark.parametrize("sampling", [{"guidance": "much"}, {"colour": 1}, [1]])
def test_damaged_settings_are_one_line(path: Path, sampling: object) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"sampling": sampling}, path)
    with pytest.raises(InputError, match="damaged: its settings"):
        checkpoint.restore_image(path, CPU)
