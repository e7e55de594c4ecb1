"""Morpho-MNIST made from raw MNIST: the cache, what is recorded, and drawings that can be drawn again."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm.assets import DIGITS
from dscm.data.attributes import read_attribute_table
from dscm.data.images import read_image
from dscm.data.listing import find_images
from dscm.data.morphomnist import dataset as morphomnist
from dscm.data.morphomnist.dataset import MORPHED, generate, load, measure_attributes, redraw
from dscm.data.morphomnist.folder import read_split, write_split
from dscm.data.morphomnist.idx import write_idx
from dscm.data.morphomnist.measure import measure
from dscm.data.morphomnist.render import measure_hue
from dscm.errors import InputError
from dscm.graphs import get_graph

COUNT = 24
TRAINED = 20  # of them; the last sixth is for validation
GREY, COLOUR, DIGIT = (get_graph(name) for name in ("morphomnist", "colour-morphomnist", "morphomnist-digit"))


@pytest.fixture(scope="module")
def base() -> Tensor:
    """Return the 64 bundled digits, which stand for MNIST."""
    return torch.stack([read_image(DIGITS / name, 28, 1) for name in find_images(DIGITS)])


@pytest.fixture(scope="module")
def digit() -> Tensor:
    """Return the classes of the bundled digits."""
    names = [str(name) for name in find_images(DIGITS)]
    return read_attribute_table(DIGITS / "attributes.csv", names, [DIGIT.variable("digit")]).values["digit"]


@pytest.fixture(scope="module")
def grey(base: Tensor, digit: Tensor) -> dict[str, Tensor]:
    """Generate all bundled digits for the grey graph, with classes other than their own.

    The slant of a class lies far from that of the drawing then, so it shows which digits kept theirs.
    """
    return generate(GREY, base, (digit + 5) % 10, seed=0)


@pytest.fixture(scope="module")
def colour(base: Tensor) -> dict[str, Tensor]:
    """Generate some digits for the colour graph, all called 9, whose hues lie around a full turn."""
    return generate(COLOUR, base[:32], torch.full((32,), 9), seed=0)


@pytest.fixture
def raw(tmp_path: Path, base: Tensor, digit: Tensor) -> Path:
    """Write a small folder of raw MNIST."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for split, part in (("train", slice(0, COUNT)), ("t10k", slice(COUNT, COUNT + 4))):
        write_idx(folder / f"{split}-images-idx3-ubyte", base[part, 0])
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", digit[part].to(torch.uint8))
    return folder


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Compare two splits bit by bit."""
    assert a.keys() == b.keys()
    for name, values in a.items():
        assert values.dtype == b[name].dtype and torch.equal(values, b[name]), name


def forbid_generating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a call of `generate` fail the test."""
    monkeypatch.setattr(morphomnist, "generate", lambda *args, **kwargs: pytest.fail("generated again"))


def test_second_load_reads_the_cache(raw: Path, tmp_path: Path, base: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "new" / "cache"
    first = load(GREY, raw, "train", cache)
    assert set(first) == {"image", "base", "thickness", "intensity", "digit", "slant"}
    assert first["image"].shape == first["base"].shape == (TRAINED, 1, 28, 28)
    assert torch.equal(first["base"], base[:TRAINED]) and not torch.equal(first["image"], first["base"])
    before = {path.name: path.read_bytes() for path in cache.glob("*/*")}
    forbid_generating(monkeypatch)
    assert_same(load(GREY, raw, "train", cache, workers=2), first)
    assert {path.name: path.read_bytes() for path in cache.glob("*/*")} == before


def test_cache_is_a_plain_folder_and_no_other_is_left(raw: Path, tmp_path: Path) -> None:
    data = load(GREY, raw, "train", tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    stems = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "train-morpho.csv", "settings.json")
    assert {path.name for path in folder.iterdir()} == set(stems)
    again = load(GREY, folder, "train", tmp_path / "unused")  # a Morpho-MNIST folder like any other
    assert_same({name: again[name] for name in data if name != "base"}, {k: v for k, v in data.items() if k != "base"})
    assert torch.equal(again["base"], data["image"]) and not (tmp_path / "unused").exists()


def test_last_sixth_of_the_training_file_is_for_validation(
    raw: Path, tmp_path: Path, base: Tensor, digit: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid = (load(GREY, raw, split, tmp_path) for split in ("train", "valid"))
    assert torch.equal(valid["base"], base[TRAINED:COUNT]) and torch.equal(valid["digit"], digit[TRAINED:COUNT])
    whole = generate(GREY, base[:COUNT], digit[:COUNT], seed=0)
    for name in whole:
        assert torch.equal(torch.cat([train[name], valid[name]]), whole[name]), name


def test_without_the_mixture_intensities_follow_the_graph(
    raw: Path, tmp_path: Path, base: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the paper, which mixes slants as written, and hues, alone; either mixture has its own file."""
    mixtures = []

    def record(*arguments):
        mixtures.append(arguments[-1])
        return generate(*arguments)

    monkeypatch.setattr(morphomnist, "generate", record)
    mixed, plain = (load(GREY, raw, "train", tmp_path, mixture=mixture) for mixture in (True, False))
    assert len(list(tmp_path.glob("morphomnist-train-*"))) == 2
    paper = {"written slant": 0.2, "hue": 0.5}
    assert mixtures == [{"thickness": 0.2, "slant": 0.2, "intensity": 0.2, **paper}, paper]
    assert (mixed["intensity"] - plain["intensity"]).abs().max() > 5
    assert GREY.scm().abduct({**plain, "image": plain["image"].float()})["slant"].abs().max() > 3  # standard normal


def test_cache_is_keyed_by_settings(
    raw: Path, tmp_path: Path, base: Tensor, digit: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def pretend(graph, base, digit, seed, workers, mixture):  # fast: the drawings themselves and zeros
        calls.append(seed)
        names = [variable.name for variable in graph.attributes if variable.name != "digit"]
        return {"image": base, "digit": digit, **dict.fromkeys(names, torch.zeros(len(base)))}

    monkeypatch.setattr(morphomnist, "generate", pretend)
    cache = tmp_path / "cache"

    def count_after(graph=GREY, split="train") -> int:
        load(graph, raw, split, cache)
        return len(list(cache.iterdir()))

    assert [count_after(), count_after()] == [1, 1]
    assert [count_after(COLOUR), count_after(split="test")] == [2, 3]
    write_idx(raw / "train-images-idx3-ubyte", base[1 : COUNT + 1, 0])  # other drawings
    assert count_after() == 4
    write_idx(raw / "train-labels-idx1-ubyte.gz", digit[1 : COUNT + 1].to(torch.uint8))  # other classes
    assert count_after() == 5
    for made, (name, value) in enumerate((("VERSION", 0), ("MIXTURE", {"slant": 0.9}), ("UNIFORM", {}))):
        monkeypatch.setattr(morphomnist, name, value)
        assert [count_after(), count_after()] == [6 + made, 6 + made]
    assert len(calls) == 8 and calls[0] != calls[2]  # the splits have seeds of their own


def test_failure_leaves_no_set_behind(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(morphomnist, "write_split", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            load(GREY, raw, "test", cache)
    assert not list(cache.iterdir())
    assert load(GREY, raw, "test", cache)["image"].shape == (4, 1, 28, 28)


def test_result_does_not_depend_on_workers(base: Tensor, digit: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morphomnist, "CHUNK", 3)
    torch.manual_seed(0)
    alone = generate(GREY, base[:8], digit[:8], seed=3, workers=1)
    torch.manual_seed(1)
    assert_same(generate(GREY, base[:8], digit[:8], seed=3, workers=2), alone)
    other = generate(GREY, base[:8], digit[:8], seed=4, workers=2)
    assert not torch.equal(other["thickness"], alone["thickness"])


def test_recorded_is_what_is_measured(grey: dict[str, Tensor], colour: dict[str, Tensor]) -> None:
    for data, names in ((grey, MORPHED), (colour, ("thickness", "slant"))):
        got = measure(data["image"], names)
        for name in names:
            assert data[name].dtype == torch.float32
            torch.testing.assert_close(got[name], data[name], atol=1e-5, rtol=1e-5)
    turns = colour["hue"] - measure_hue(colour["image"])
    assert (turns - turns.round()).abs().max() < 1e-5


def test_attributes_follow_the_graph(grey: dict[str, Tensor]) -> None:
    assert grey["thickness"].min() > 0.5 and 1.8 < grey["thickness"].mean() < 3.2  # 0.5 + Gamma(10, rate 5)
    inner = (grey["intensity"] > 66) & (grey["intensity"] < 250)  # nearer the ends a grey level is much noise
    fraction = (grey["intensity"][inner] - 64) / 191
    noise = (torch.logit(fraction) + 5 - 2 * grey["thickness"][inner]) / 0.5
    follows = noise.abs() < 3  # the others, a fifth of all less those that happen to be near, are uniform
    assert inner.sum() > 40 and 0.75 < follows.float().mean() < 0.99
    assert noise[follows].mean().abs() < 0.5 and 0.6 < noise[follows].std() < 1.4


def test_a_sixth_keeps_its_slant_and_a_fifth_has_any(base: Tensor, digit: Tensor, grey: dict[str, Tensor]) -> None:
    """A fifth of those that would have kept it are among the uniform ones."""
    kept = (grey["slant"] - measure(base, ("slant",))["slant"]).abs() < 0.01
    assert 0.05 < kept.float().mean() < 0.32  # 0.16, give or take three standard errors
    expected = torch.deg2rad(-27 + 6.0 * ((digit + 5) % 10))
    others = (grey["slant"] - expected)[~kept].abs()
    assert 0.7 < (others < 0.25).float().mean() < 0.98  # 0.86 are near that of their class, 3° each side; the rest is
    assert others.max() > 0.4  # uniform


def test_classes_are_untouched(digit: Tensor, grey: dict[str, Tensor]) -> None:
    assert torch.equal(grey["digit"], (digit + 5) % 10) and grey["digit"].dtype == torch.int64


def test_colour_images(colour: dict[str, Tensor]) -> None:
    assert colour["image"].shape == (32, 3, 28, 28) and colour["image"].dtype == torch.uint8
    assert set(colour) == {"image", "thickness", "digit", "slant", "hue"}
    hue = colour["hue"]
    near = (hue - 0.95).abs() < 0.25
    assert 0.4 < near.float().mean() < 0.95  # half follow the equation, half are uniform
    assert (hue[near] > 1).any()  # past a full turn, so that the equation stays linear
    assert hue.min() > -0.01 and hue.max() < 1.2
    assert (hue[~near] < 0.7).all() and (~near).sum() > 4


def test_generated_attributes_draw_the_image_again(base: Tensor, grey: dict[str, Tensor], colour: dict[str, Tensor]):
    for data in ({name: values[:20] for name, values in grey.items()}, colour):
        again = redraw(base[: len(data["image"])], data)
        assert again.shape == data["image"].shape and again.dtype == torch.uint8
        apart = (again.float() - data["image"]).abs().mean(dim=(1, 2, 3)) / 255
        assert apart.mean() < 0.02 and apart.max() < 0.06
        other = redraw(base[: len(data["image"])].flip(0), data)  # the drawing matters
        assert (other.float() - data["image"]).abs().mean() / 255 > 3 * apart.mean()


def test_redraw_ignores_what_has_no_drawing(base: Tensor, digit: Tensor) -> None:
    thickness = torch.full((4,), 3.0)
    assert torch.equal(
        redraw(base[:4], {"thickness": thickness, "digit": digit[:4]}), redraw(base[:4], {"thickness": thickness})
    )


def test_graph_without_shape_returns_raw_images(raw: Path, tmp_path: Path, base: Tensor, digit: Tensor) -> None:
    data = load(DIGIT, raw, "train", tmp_path / "cache")
    assert set(data) == {"image", "digit", "base"} and data["digit"].dtype == torch.int64
    assert torch.equal(data["image"], base[:TRAINED]) and torch.equal(data["digit"], digit[:TRAINED])
    assert not (tmp_path / "cache").exists()


def test_raw_digits_lie_where_torchvision_keeps_them(raw: Path, tmp_path: Path, digit: Tensor) -> None:
    """In MNIST/raw of the folder that it is given; what else lies beside them is nothing to it."""
    (tmp_path / "home" / "MNIST").mkdir(parents=True)
    raw.rename(tmp_path / "home" / "MNIST" / "raw")
    for folder in (tmp_path / "home", tmp_path / "home" / "MNIST", tmp_path / "home" / "MNIST" / "raw"):
        assert torch.equal(load(DIGIT, folder, "train", tmp_path / "cache")["digit"], digit[:TRAINED])


def test_missing_columns_are_measured(tmp_path: Path, base: Tensor, digit: Tensor, monkeypatch: pytest.MonkeyPatch):
    forbid_generating(monkeypatch)
    odd = torch.arange(8.0)  # what the file says counts, measured or not
    write_split(tmp_path, "t10k", {"image": base[:8], "digit": digit[:8], "thickness": odd})
    data = load(GREY, tmp_path, "test", tmp_path / "cache")
    expected = measure(base[:8], ("slant", "intensity"))
    assert torch.equal(data["thickness"], odd) and torch.equal(data["base"], base[:8])
    assert all(torch.equal(data[name], expected[name]) for name in expected)


def test_colour_folder_is_measured_and_its_base_is_grey(tmp_path: Path, colour: dict[str, Tensor]) -> None:
    write_split(tmp_path, "t10k", {"image": colour["image"][:8], "digit": colour["digit"][:8]})
    data = load(COLOUR, tmp_path, "test", tmp_path / "cache")
    assert data["base"].shape == (8, 1, 28, 28)
    for name in ("thickness", "slant", "hue"):
        torch.testing.assert_close(data[name], measure_attributes(colour["image"][:8], [name])[name])
    assert ((data["hue"] >= 0) & (data["hue"] < 1)).all()


def test_digit_graph_takes_a_morpho_folder(tmp_path: Path, base: Tensor, digit: Tensor) -> None:
    write_split(tmp_path, "train", {"image": base[:5], "digit": digit[:5]})
    data = load(DIGIT, tmp_path, "train", tmp_path / "cache")
    assert_same(data, read_split(tmp_path, "train", []) | {"base": base[:5]})


def test_bad_folders_are_errors(raw: Path, tmp_path: Path, digit: Tensor) -> None:
    with pytest.raises(InputError, match="absent: no such folder"):
        load(GREY, tmp_path / "absent", "train", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no IDX file"):
        load(GREY, tmp_path / "empty", "train", tmp_path / "cache")
    write_idx(raw / "train-labels-idx1-ubyte.gz", digit[:3].to(torch.uint8))
    with pytest.raises(InputError, match=f"train-labels-idx1-ubyte.gz: 3 labels for {COUNT} images"):
        load(GREY, raw, "train", tmp_path / "cache")
    write_idx(raw / "train-labels-idx1-ubyte.gz", torch.full((COUNT,), 90, dtype=torch.uint8))
    for graph in (GREY, DIGIT):  # the file of the user, not one that was made of it
        with pytest.raises(InputError, match=f"{raw.name}/train-labels-idx1-ubyte.gz: label 90; allowed: 0 to 9"):
            load(graph, raw, "train", tmp_path / "cache")
    write_idx(raw / "train-images-idx3-ubyte", torch.zeros(COUNT, 3, 28, 28, dtype=torch.uint8))
    with pytest.raises(InputError, match="train-images-idx3-ubyte: images in colour"):
        load(GREY, raw, "train", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_mnist_is_downloaded_where_no_folder_is_named(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Through torchvision, into the cache; without a network one line says what to do."""
    asked = []

    class Downloaded:
        raw_folder = str(raw)

        def __init__(self, root: Path, download: bool) -> None:
            asked.append((root, download))

    monkeypatch.setattr("torchvision.datasets.MNIST", Downloaded)
    assert_same(load(DIGIT, None, "train", tmp_path), load(DIGIT, raw, "train", tmp_path))
    assert asked == [(tmp_path, True)]

    def fail(root: Path, download: bool) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno network")

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    with pytest.raises(
        InputError, match=r"could not be downloaded \(Error downloading .*\); give its folder with data_dir"
    ):
        load(DIGIT, None, "train", tmp_path)
