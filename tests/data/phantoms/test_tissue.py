"""Markers on real mammograms: they lie on the breast, change their own box alone, and keep the depth of the file."""

import numpy as np
import pytest

from dscm.data.phantoms import tissue
from dscm.data.phantoms.markers import RANGES
from dscm.errors import UnreadableImage
from tests.support.breasts import DEPTH, HALF, MARGIN, SIZE, make_breast

MARKERS = ("circle marker", "triangle marker")


@pytest.mark.parametrize("right", [False, True])
def test_the_breast_is_found_beside_labels_and_strips(right: bool) -> None:
    """Its side, its middle and its extent; x counts from the chest wall's edge."""
    breast, half = tissue.find_breast(make_breast(0, right)), SIZE[0] / 2
    assert breast.mirrored == right and abs(breast.middle) < 0.03
    assert abs(breast.half_height - HALF / half) < 0.05
    middle = tissue.ROWS // 2
    assert abs(breast.near[middle] - MARGIN / half) < 0.05
    assert abs(breast.far[middle] - (MARGIN + DEPTH) / half) < 0.05


@pytest.mark.parametrize("right", [False, True])
def test_the_margin_beside_the_chest_wall_is_cut(right: bool) -> None:
    """And nothing else: a second cut does nothing."""
    image = make_breast(0, right)
    cut = tissue.cut_margin(image)
    assert np.array_equal(cut, image[:, :-MARGIN] if right else image[:, MARGIN:])
    assert np.array_equal(tissue.cut_margin(cut), cut)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("right", [False, True])
def test_a_marker_changes_its_box_on_the_breast_alone(dtype: type, right: bool) -> None:
    """Every other pixel keeps its level; without markers all do. It is brighter than tissue, at most as a label."""
    image = make_breast(1, right, dtype)
    breast = tissue.find_breast(image)
    for index in range(8):
        markers = tissue.place_markers(breast, 5, index)
        assert np.array_equal(tissue.paint(image, breast, markers, dict.fromkeys(MARKERS, 0)), image)
        for name in MARKERS:
            painted = tissue.paint(image, breast, markers, dict.fromkeys(MARKERS, 0) | {name: 1})
            assert painted.dtype == dtype and painted.max() == image.max()
            rows, columns = np.nonzero(painted != image)
            top, left, bottom, end = tissue.find_box(image, breast, markers, name).tolist()
            slack = [rows.min() - top, columns.min() - left, bottom - 1 - rows.max(), end - 1 - columns.max()]
            assert min(slack) >= 0 and max(slack) <= 2
            assert (image[rows, columns] > 0).all(), "on the breast"
            assert (painted[rows, columns].astype(int) >= image[rows, columns]).all()


def test_markers_are_as_those_of_drawings_and_depend_on_seed_and_index_alone() -> None:
    breast = tissue.find_breast(make_breast(2))
    drawn = [tissue.place_markers(breast, 5, index) for index in range(200)]
    for name in ("circle_radius", "triangle_radius", "circle_opacity", "triangle_turn", "marker_level"):
        values = np.array([getattr(markers, name).item() for markers in drawn])
        low, high = RANGES[name]
        assert low <= values.min() < low + 0.1 * (high - low) and high - 0.1 * (high - low) < values.max() <= high
    above = np.mean([(markers.circle_y < markers.triangle_y).item() for markers in drawn])
    assert 0.35 < above < 0.65 and drawn[3] == tissue.place_markers(breast, 5, 3)
    assert drawn[3] != tissue.place_markers(breast, 6, 3)


def test_markers_keep_off_tissue_in_which_they_would_not_be_seen() -> None:
    """Where half of the breast is nearly white, both lie on the other half."""
    image = make_breast(3)
    half = image.copy()
    half[:, MARGIN + DEPTH // 2 :][half[:, MARGIN + DEPTH // 2 :] > 0] = 235
    breast = tissue.find_breast(half)
    for index in range(8):
        markers = tissue.place_markers(breast, 5, index)
        for name in MARKERS:
            top, left, bottom, right = tissue.find_box(half, breast, markers, name).tolist()
            assert half[top:bottom, left:right].mean() < 0.75 * half.max()


def test_images_without_a_breast_are_refused() -> None:
    for image, words in (
        (np.zeros(SIZE, np.uint8), "no breast"),
        (np.full((50, 90), 100, np.uint8), "50 rows: a mammogram needs at least 128"),
    ):
        with pytest.raises(UnreadableImage, match=words):
            tissue.find_breast(image)
