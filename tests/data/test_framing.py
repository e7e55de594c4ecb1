"""Where the square of a model lies in an image, and that it comes back to where it was."""

import numpy as np
import pytest
import torch

from dscm.data.framing import STRETCHED, Framing, Window
from dscm.data.images import fit
from dscm.data.sets import Source, get_data_set
from dscm.errors import InputError
from dscm.graphs import get_graph

SHAPES = [(12, 24), (24, 12), (13, 24), (16, 16), (1, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_windows(shape: tuple[int, int]) -> None:
    """A crop is the largest square within, a padded one the smallest around, both in the middle to within a pixel."""
    height, width = shape
    assert Framing("stretch").window(height, width) == Window(0, 0, height, width)
    for framing, side in ((Framing("crop"), min(shape)), (Framing("pad"), max(shape))):
        window = framing.window(height, width)
        assert window.height == window.width == side
        for start, length in ((window.top, height), (window.left, width)):
            assert abs(start + side / 2 - length / 2) <= 0.5
    assert Framing("pad").window(height, width, (0, 0)) == Window(0, 0, max(shape), max(shape))


@pytest.mark.parametrize(("shape", "window"), [((218, 178), (30, 178)), ((109, 89), (15, 89)), ((64, 64), (0, 64))])
def test_faces_of_celeba_are_cropped_where_they_are(shape: tuple[int, int], window: tuple[int, int]) -> None:
    """At the published size rows 30 to 208, at half of it 15 to 104; a landscape keeps its height and its middle."""
    faces = get_data_set(get_graph("celeba"))
    assert faces.framing.window(*shape) == Window(window[0], 0, window[1], window[1])
    assert faces.framing.window(64, 100) == Window(0, 18, 64, 64)
    padding = get_data_set(get_graph("celeba"), Source(framing=Framing("pad"))).framing
    assert padding.window(64, 100) == Framing("pad").window(64, 100), "in the middle"
    assert get_data_set(get_graph("celebahq")).framing == STRETCHED


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("framing", [Framing("stretch"), Framing("crop"), Framing("pad")])
def test_what_is_cut_out_goes_back_to_its_place(framing: Framing, shape: tuple[int, int]) -> None:
    """At its own size nothing is resampled: inside the window every pixel comes back, outside there is nothing."""
    layer = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)) + 1
    window = framing.window(*shape)
    back = window.place(window.cut(layer), *shape)
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[max(window.top, 0) : window.top + window.height, max(window.left, 0) : window.left + window.width] = True
    assert torch.allclose(back[:, inside], layer[:, inside]) and not back[:, ~inside].any()
    assert inside.all() or framing.fit == "crop"


def test_a_photograph_keeps_its_aspect() -> None:
    """A circle stays one, cropped or padded; stretched it does not. What is padded is black."""
    y, x = np.mgrid[:40, :80]
    disc = (((y - 19.5) ** 2 + (x - 39.5) ** 2) < 15**2).astype(np.uint8) * 255
    extents = {}
    for name in ("stretch", "crop", "pad"):
        lit = fit(disc, 80, 1, Framing(name))[0] > 127
        extents[name] = lit.any(dim=1).sum().item(), lit.any(dim=0).sum().item()
    assert extents == {"stretch": (60, 30), "crop": (60, 60), "pad": (30, 30)}
    padded = fit(np.full((40, 80, 3), 255, np.uint8), 80, 3, Framing("pad"))
    assert padded[:, 21:59].min() == 255 and padded[:, :19].max() == padded[:, 61:].max() == 0


def test_settings_of_earlier_versions() -> None:
    """They counted for mammograms alone, whatever a folder's or digits' checkpoint says."""
    old = {"keep_aspect": True, "clean_background": True}
    assert Framing.of(old, "embed") == Framing("pad", True) and Framing.of(old, "folder") == STRETCHED
    assert Framing.of({}, "embed") == Framing.of({"keep_aspect": False}, "embed") == STRETCHED
    assert Framing.of({"fit": "crop", "clean_background": False}, "folder") == Framing("crop")


def test_names_tell_framings_apart() -> None:
    framings = [Framing(name, clean) for name in ("stretch", "crop", "pad") for clean in (False, True)]
    assert len({framing.name for framing in framings}) == len({framing.suffix for framing in framings}) == 6
    assert STRETCHED.suffix == ""


@pytest.mark.parametrize(
    ("name", "given", "setting"),
    [
        ("morphomnist", {"framing": Framing("pad")}, "fit"),
        ("morphomnist", {"skip_missing": True}, "skip_missing"),
        ("celebahq", {"csv": ("a.csv",)}, "csv"),
        ("celebahq", {"framing": Framing(clean_background=True)}, "clean_background"),
    ],
)
def test_settings_without_effect_are_refused(name: str, given: dict, setting: str) -> None:
    with pytest.raises(InputError, match=f"^{setting}: has no effect on data {name}; it is a setting of .*embed"):
        get_data_set(get_graph(name), Source(**given)).check_source()
    embed = Source(csv=("a.csv",), framing=Framing("crop", True), skip_missing=True)
    get_data_set(get_graph("embed"), embed).check_source()
    get_data_set(get_graph(name)).check_source()
