"""Measurements: recorded references, shapes whose answers are known, and what must never change the result.

``reference/bundled.csv`` (the 64 digits in dscm/assets) and ``reference/mnist_t10k.csv`` (the first 64 test digits
of MNIST) were recorded with scikit-image 0.26.0, one image at a time, from the definitions in Castro et al. 2019:
upscaled four times by ``transform.pyramid_expand(order=3)`` and truncated to bytes; ink is at or above half of the
range; thickness is twice the mean distance along ``morphology.medial_axis(rng=0)``; slant is arctan(−μ11/μ02); width
and height hold 98% of the mass along the slanted axes; intensity is the median of the ink of the small image.
scikit-image breaks ties in the thinning at random, this package by the parity of row and column, so thickness agrees
only closely.
"""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from dscm.assets import DIGITS
from dscm.data.images import read_image
from dscm.data.listing import find_images
from dscm.data.morphomnist import measure as morphometry
from dscm.data.morphomnist.idx import find_idx, read_idx
from dscm.data.morphomnist.measure import NAMES, downscale, measure, medial_axis, squared_distance, upscale

REFERENCE = Path(__file__).parent / "reference"
MNIST = Path(__file__).parents[2] / "shared" / "mnist"
MEDIAN = {"thickness": 0.02, "slant": 1e-4, "intensity": 0, "area": 0.01, "width": 0.01, "height": 0.01}
WORST = {"thickness": 0.2, "slant": 1e-3, "intensity": 0, "area": 0.3, "width": 0.05, "height": 0.05}
EIGHT = np.ones((3, 3))  # neighbourhood of the ink; that of the background is the default, of four
Y, X = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """Return the 64 bundled digits, in the order of their names."""
    return torch.stack([read_image(DIGITS / name, 28, 1) for name in find_images(DIGITS)])


def draw(coverage: Tensor, grey: int = 255) -> Tensor:
    """Turn signed coverage (28, 28), clamped to [0, 1], into one image."""
    return (coverage.clamp(0, 1) * grey).round().to(torch.uint8)[None, None]


def draw_stroke(width: float, height: float, grey: int = 255) -> Tensor:
    """Draw an upright stroke with round ends, about the middle of the frame."""
    along = ((Y - 13.5).abs() - (height - width) / 2).clamp_min(0)
    return draw((width + 1) / 2 - torch.hypot(X - 13.5, along), grey)


def draw_bar(width: float, height: float, slant: float = 0.0) -> Tensor:
    """Draw a bar about the middle of the frame whose rows are shifted, so that it leans by ``slant``."""
    middle = 13.5 - math.tan(slant) * (Y - 13.5)
    across, along = (width + 1) / 2 - (X - middle).abs(), (height + 1) / 2 - (Y - 13.5).abs()
    return draw(across.clamp(0, 1) * along.clamp(0, 1))


def make_blobs(count: int, height: int, width: int, seed: int) -> Tensor:
    """Return random smooth masks (count, height, width), with several pieces and holes that touch the frame."""
    noise = np.random.default_rng(seed).normal(size=(count, height, width))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 2.5, 2.5)) > 0)


def count_pieces_and_holes(mask: Tensor) -> tuple[int, int]:
    """Count the 8-connected pieces of a mask (H, W) and the 4-connected holes in them."""
    padded = np.pad(mask.numpy(), 1)
    return ndimage.label(padded, EIGHT)[1], ndimage.label(~padded)[1] - 1


def assert_agrees(images: Tensor, path: Path) -> None:
    """Compare the measurements with recorded ones, row by row."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(images) == 64
    for name, got in measure(images).items():
        miss = (got - torch.tensor([float(row[name]) for row in rows])).abs()
        assert miss.median() <= MEDIAN[name], f"{name}: median {miss.median():.4f}"
        assert miss.max() <= WORST[name], f"{name}: worst {miss.max():.4f}"


def test_bundled_digits_agree_with_reference(digits: Tensor) -> None:
    assert_agrees(digits, REFERENCE / "bundled.csv")


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST}")
def test_mnist_agrees_with_reference() -> None:
    assert_agrees(read_idx(find_idx(MNIST, "t10k-images-idx3-ubyte"))[:64, None], REFERENCE / "mnist_t10k.csv")


@pytest.mark.parametrize(("width", "height", "grey"), [(2, 20, 255), (4, 20, 90), (6, 22, 200)])
def test_upright_stroke(width: int, height: int, grey: int) -> None:
    got = measure(draw_stroke(width, height, grey))
    assert got["intensity"].item() == grey
    assert got["thickness"].item() == pytest.approx(width, abs=0.05)
    assert got["area"].item() == pytest.approx(width * (height - width) + math.pi * width**2 / 4, rel=0.02)
    assert got["slant"].item() == pytest.approx(0, abs=1e-4)
    assert got["height"].item() == pytest.approx(0.98 * height, abs=0.3)
    assert width < got["width"].item() < width + 1.6  # the smoothing widens it


def test_stroke_lying_down_is_the_same() -> None:
    standing, lying = measure(draw_stroke(4, 20)), measure(draw_stroke(4, 20).mT)
    for name in ("thickness", "intensity", "area"):
        torch.testing.assert_close(lying[name], standing[name], atol=1e-4, rtol=0)
    assert lying["slant"].item() == pytest.approx(0, abs=1e-4)
    assert (lying["width"] - standing["height"]).abs() < 0.1 and (lying["height"] - standing["width"]).abs() < 0.1


@pytest.mark.parametrize("slant", [-0.5, -0.2, 0.1, 0.35])
def test_leaning_bar(slant: float) -> None:
    upright, leaning = measure(draw_bar(4, 16)), measure(draw_bar(4, 16, slant))
    assert leaning["slant"].item() == pytest.approx(slant, abs=0.006)
    assert leaning["area"].item() == pytest.approx(4 * 16, rel=0.02)
    assert leaning["height"].item() == pytest.approx(upright["height"].item(), abs=0.1)
    assert leaning["width"].item() == pytest.approx(upright["width"].item(), abs=0.4)  # of the slanted box


@pytest.mark.parametrize("width", [2, 3, 5])
def test_ring(width: int) -> None:
    radius = 8.0
    got = measure(draw((width + 1) / 2 - (torch.hypot(X - 13.5, Y - 13.5) - radius).abs()))
    assert got["thickness"].item() == pytest.approx(width, abs=0.3)
    assert got["area"].item() == pytest.approx(2 * math.pi * radius * width, rel=0.05)
    assert got["slant"].item() == pytest.approx(0, abs=1e-3)


def test_mirror_image_leans_the_other_way(digits: Tensor) -> None:
    there, back = measure(digits), measure(digits.flip(-1))
    torch.testing.assert_close(back["slant"], -there["slant"], atol=1e-5, rtol=0)
    for name in ("area", "intensity", "thickness"):
        torch.testing.assert_close(back[name], there[name])
    torch.testing.assert_close(measure(digits.flip(-2))["thickness"], there["thickness"])


@pytest.mark.parametrize("shape", [(12, 30, 40), (12, 31, 40), (12, 31, 41)])
def test_the_axis_of_a_mirror_image_is_the_mirrored_axis(shape: tuple[int, int, int]) -> None:
    """Whether the frame has an even or an odd number of pixels."""
    ink = make_blobs(*shape, seed=2)
    axis = medial_axis(ink, squared_distance(ink))
    for dims in ([1], [2], [1, 2]):
        assert torch.equal(medial_axis(ink.flip(dims), squared_distance(ink.flip(dims))), axis.flip(dims))


@pytest.mark.parametrize("shape", [(3, 28, 28), (4, 17, 40), (2, 40, 9), (2, 1, 12), (1, 112, 112)])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_squared_distance_is_exact(shape: tuple[int, int, int], share: float) -> None:
    ink = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) < share
    ink[0, : shape[1] // 2] = True  # whole rows of ink
    ink[-1, :, shape[2] // 2 :] = True  # and columns
    ink[:, -1, 0] = False
    expected = np.stack([ndimage.distance_transform_edt(image) for image in ink.numpy()]) ** 2
    assert torch.equal(squared_distance(ink), torch.from_numpy(expected.round()).float())


def test_squared_distance_in_a_tall_frame() -> None:
    ink = torch.ones(1, 40, 9, dtype=torch.bool)
    ink[0, 0, 0] = False
    assert squared_distance(ink)[0, 39, 0] == 39**2


def test_squared_distance_in_one_corner_and_nowhere() -> None:
    ink = torch.ones(2, 20, 30, dtype=torch.bool)
    ink[0, 0, 0] = False
    squared = squared_distance(ink)
    assert torch.equal(squared[0], torch.arange(20.0)[:, None] ** 2 + torch.arange(30.0) ** 2)
    assert (squared[1] == 20**2 + 30**2).all()
    assert (squared_distance(~ink)[1] == 0).all()


@pytest.mark.parametrize("shape", [(24, 40, 40), (12, 30, 55)])
def test_medial_axis_keeps_pieces_and_holes(shape: tuple[int, int, int]) -> None:
    """No piece is lost, split or joined, and no hole lost.

    A pinhole may open: the definition lets go of a pixel among eight of ink, here as in scikit-image.
    """
    ink = make_blobs(*shape, seed=0)
    axis = medial_axis(ink, squared_distance(ink))
    assert not (axis & ~ink).any()
    assert axis.sum() < 0.4 * ink.sum()
    counts = [(count_pieces_and_holes(before), count_pieces_and_holes(after)) for before, after in zip(ink, axis)]
    assert all(pieces == others and holes <= more for (pieces, holes), (others, more) in counts)
    assert sum(holes < more for (_, holes), (_, more) in counts) <= 0.1 * len(ink)


def test_medial_axis_of_thin_lines_is_the_lines() -> None:
    ink = torch.zeros(3, 15, 15, dtype=torch.bool)
    ink[0, 7, 2:12] = True
    ink[1, 2:12, 7] = True
    ink[2].diagonal()[2:12] = True
    assert torch.equal(medial_axis(ink, squared_distance(ink)), ink)


def test_medial_axis_of_a_block_is_its_diagonals_and_ridge() -> None:
    ink = torch.zeros(1, 20, 30, dtype=torch.bool)
    ink[0, 5:14, 5:24] = True  # 9 x 19: the ridge is row 9, and diagonals run to the four corners
    expected = torch.zeros_like(ink)
    expected[0, 9, 9:20] = True
    for k in range(5):
        for y, x in ((5 + k, 5 + k), (13 - k, 5 + k), (5 + k, 23 - k), (13 - k, 23 - k)):
            expected[0, y, x] = True
    axis = medial_axis(ink, squared_distance(ink))
    assert (axis ^ expected).sum() <= 4  # corners themselves may be trimmed
    assert axis[0, 9, 9:20].all()


def test_medial_axis_is_connected_where_the_ink_reaches_the_frame() -> None:
    ink = torch.ones(2, 12, 18, dtype=torch.bool)
    ink[0, 3:9, 5:13] = False  # a frame: one piece and one hole
    ink[1, :, 9] = False  # two halves
    axis = medial_axis(ink, squared_distance(ink))
    assert [count_pieces_and_holes(mask) for mask in axis] == [(1, 1), (2, 0)]


class OnAccelerator(Tensor):
    """A tensor on the CPU that says otherwise, so that the way of accelerators is taken."""

    class Name(str):
        type = "accelerator"

    device = property(lambda self: self.Name("cpu"))

    def numpy(self) -> np.ndarray:
        """Refuse, as a tensor of an accelerator does."""
        raise TypeError("not on the CPU")


def test_thinning_on_accelerators_is_that_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    ink = torch.nn.functional.pad(make_blobs(12, 30, 26, seed=1), (0, 2, 0, 2))
    ink[3] = False  # idles while the others are thinned
    squared, thin, calls = squared_distance(ink), morphometry._thin, []

    def thin_as_on_accelerator(mask: Tensor, visits: Sequence[Tensor], stride: int) -> Tensor:
        calls.append(len(visits))
        return thin(mask.as_subclass(OnAccelerator), visits, stride).as_subclass(Tensor)

    expected = medial_axis(ink, squared)
    monkeypatch.setattr(morphometry, "_thin", thin_as_on_accelerator)
    assert torch.equal(medial_axis(ink, squared), expected)
    assert calls and calls[0] < int(ink.sum(dim=(1, 2)).max())  # ties are visited together


def test_batch_equals_one_at_a_time(digits: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    few = digits[:24]
    together = measure(few)
    singly = [measure(image[None]) for image in few]
    monkeypatch.setattr(morphometry, "CHUNK", 7)
    chunked = measure(few)
    for name in NAMES:
        assert together[name].shape == (24,) and together[name].dtype == torch.float32
        torch.testing.assert_close(torch.cat([one[name] for one in singly]), together[name], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(chunked[name], together[name], atol=1e-5, rtol=1e-5)


def test_only_what_is_asked_for(digits: Tensor) -> None:
    everything = measure(digits[:4])
    for names in (("slant",), ("height", "intensity"), ("thickness", "area")):
        got = measure(digits[:4], names)
        assert tuple(got) == names
        assert all(torch.equal(got[name], everything[name]) for name in names)
    assert {name: values.shape for name, values in measure(digits[:0]).items()} == dict.fromkeys(NAMES, (0,))


def test_blank_image_measures_zero_beside_others(digits: Tensor) -> None:
    blank = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    got = measure(torch.cat([digits[:1], blank, digits[1:2]]))
    alone = measure(digits[:2])
    for name in NAMES:
        assert got[name][1] == 0 and measure(blank)[name].item() == 0
        torch.testing.assert_close(got[name][::2], alone[name])


def test_constant_grey_image_has_no_size() -> None:
    got = measure(torch.full((1, 1, 28, 28), 77, dtype=torch.uint8))
    assert all(got[name].item() == 0 for name in NAMES if name != "intensity")


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_colour_counts_its_brightest_channel(digits: Tensor, channel: int) -> None:
    colour = torch.cat([digits[:6] // 3, digits[:6] // 2, digits[:6] // 4], dim=1)
    colour[:, channel] = digits[:6, 0]
    got, expected = measure(colour), measure(digits[:6])
    assert all(torch.equal(got[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize("convert", [Tensor.float, Tensor.double])
def test_bytes_and_floats_agree(digits: Tensor, convert: Callable[[Tensor], Tensor]) -> None:
    got, expected = measure(convert(digits[:16])), measure(digits[:16])
    assert all(torch.equal(got[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_inputs_are_not_changed(digits: Tensor, dtype: torch.dtype) -> None:
    images = digits[:4].to(dtype)
    ink = make_blobs(2, 20, 20, seed=3)
    squared = squared_distance(ink)
    copies = images.clone(), ink.clone(), squared.clone()
    measure(images)
    medial_axis(ink, squared)
    assert all(torch.equal(a, b) for a, b in zip((images, ink, squared), copies))


def test_downscaling_undoes_upscaling(digits: Tensor) -> None:
    grey = digits[:, 0].float()
    fine = upscale(grey)
    assert fine.shape == (64, 112, 112) and torch.equal(fine, fine.floor())
    assert (fine.amax(dim=(1, 2)) <= grey.amax(dim=(1, 2))).all() and (fine >= 0).all()
    assert (downscale(fine) - grey).abs().mean() < 5
    constant = torch.arange(256.0)[:, None, None].expand(256, 8, 8)  # no level may be rounded down
    assert torch.equal(upscale(constant), constant[:, :1, :1].expand(256, 32, 32))
