"""Drawn mammograms: each attribute changes its own place alone, and as often as the graph says."""

import numpy as np
import pytest
import torch

from dscm.data.phantoms import mammograms
from dscm.graphs import get_graph

SEED = 3
FACES, BREASTS = torch.arange(24), torch.arange(12)


def flip_breasts(name: str) -> tuple[np.ndarray, mammograms.Nuisance]:
    """Draw mammograms without and with an attribute: differences in [0, 1] (N, HEIGHT, WIDTH), and their nuisance."""
    nuisance, attributes = mammograms.draw_nuisance(SEED, BREASTS), mammograms.draw_attributes(SEED, BREASTS)
    without, with_it = (
        mammograms.render(nuisance, attributes | {name: torch.full_like(BREASTS, value)}) / 65535 for value in (0, 1)
    )
    return np.abs(with_it - without), nuisance


def test_mammograms_follow_the_graph() -> None:
    n = 4000
    values = mammograms.draw_attributes(SEED, torch.arange(n))
    assert {variable.name for variable in get_graph("embed").attributes} == set(values)
    for name, shares in mammograms.SHARES.items():
        for value, share in enumerate(shares):
            error = (share * (1 - share) / n) ** 0.5
            assert abs((values[name] == value).double().mean() - share) < 5 * error, f"{name} = {value}"


@pytest.mark.parametrize("name", ["circle marker", "triangle marker"])
def test_a_marker_changes_its_box_alone(name: str) -> None:
    """Every changed pixel lies in the box, and the box is no more than two pixels wider; it shows on every breast."""
    difference, nuisance = flip_breasts(name)
    for changed, box in zip(difference, mammograms.marker_box(nuisance, name).numpy()):
        rows, columns = np.nonzero(changed)
        slack = [rows.min() - box[0], columns.min() - box[1], box[2] - 1 - rows.max(), box[3] - 1 - columns.max()]
        assert min(slack) >= 0 and max(slack) <= 2
        assert 9 <= box[3] - box[1] <= 24
        assert changed.max() > 0.15 and (changed > 0.1).sum() > 30


def test_a_cancer_changes_its_place_alone() -> None:
    difference, _ = flip_breasts("cancer")
    for changed in difference:
        rows, columns = np.nonzero(changed)
        assert np.ptp(rows) < 48 and np.ptp(columns) < 48
        assert changed.max() > 0.1 and (changed > 0.05).sum() > 50


def test_denser_is_brighter() -> None:
    nuisance, attributes = mammograms.draw_nuisance(SEED, BREASTS), mammograms.draw_attributes(SEED, BREASTS)
    images = (mammograms.render(nuisance, attributes | {"density": torch.full_like(BREASTS, d)}) for d in range(4))
    means = np.stack([image.mean(axis=(1, 2)) / 65535 for image in images])
    assert (np.diff(means, axis=0) > 0.004).all()


def test_breasts_lie_at_either_edge_on_black() -> None:
    images = mammograms.redraw(SEED, BREASTS, mammograms.draw_attributes(SEED, BREASTS))
    assert images.dtype == np.uint16 and images.shape == (12, 256, 192)
    left, right = images[:, 128, 0] > 0, images[:, 128, -1] > 0
    assert (left != right).all() and left.any() and right.any()
    assert ((images == 0).mean(axis=(1, 2)) > 0.2).all()


def test_patients_share_the_shape_and_nothing_else() -> None:
    index = torch.arange(40)
    patients = mammograms.patient_of(index)
    counts = patients.unique(return_counts=True)[1]
    assert set(counts.tolist()) == {1, 2, 3, 4} and (patients.diff() >= 0).all()
    anatomy = mammograms.draw_nuisance(SEED, index).anatomy
    for patient in range(16):
        own = patients == patient
        assert len(anatomy.half_height[own].unique()) == len(anatomy.droop[own].unique()) == 1
        assert len(anatomy.middle[own].unique()) == own.sum()
    assert len(anatomy.half_height.unique()) == 16
