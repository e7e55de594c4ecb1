"""What the README says of the checks of answers, on a few of the bundled digits."""

import pytest
import torch

from dscm import assets, load
from dscm.data.scaling import to_levels
from dscm.evaluation.foreign import draw_foreign, rank_images
from dscm.model import Model
from dscm.trust.ranks import ALARM

N = 16


@pytest.fixture(scope="module")
def model() -> Model:
    """The bundled model of digits."""
    return load("morphomnist")


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    """The first bundled digits, uint8."""
    return to_levels(assets.read_observation(N)["image"])


@torch.no_grad()
def rank(model: Model, images: torch.Tensor) -> torch.Tensor:
    """Return how usual images are."""
    inspector = model.inspector
    assert inspector.reference and inspector.reference.noise
    return rank_images(model.scm, inspector, inspector.reference.noise, images, seed=0)


def test_digits_raise_few_alarms_and_foreign_images_many(model: Model, digits: torch.Tensor) -> None:
    assert (rank(model, digits) < ALARM).float().mean() <= 1 / N
    for kind, images in draw_foreign(digits, one_sided=False, seed=0).items():
        assert (rank(model, images) < ALARM).float().mean() > 0.7, kind


FOREIGN = [("celeba", "people", "inverted"), ("embed", "mammograms", "mirrored")]


@torch.no_grad()
@pytest.mark.parametrize(("name", "folder", "kind"), FOREIGN)
def test_images_whose_noise_is_usual_are_known_by_their_look(name: str, folder: str, kind: str) -> None:
    """Some of those that a model drew itself raise an alarm, too: they are no photographs."""
    other = load(name)
    images = other.observe(sorted((assets.FOLDER / folder).glob("*.png"))[:3])["image"]
    foreign = draw_foreign(images, one_sided=True, seed=0)[kind]
    assert (rank(other, foreign) < ALARM).all() and (rank(other, images) < ALARM).float().mean() < 0.5


def test_a_question_far_off_the_data_is_marked(model: Model) -> None:
    """And more doubtful than an ordinary one about the same digits."""
    paths = sorted(assets.DIGITS.glob("*.png"))[:4]
    far, near = (model.counterfactual(paths, {"thickness": value}).trust for value in (9.0, 3.0))
    assert far and near
    assert all("off the support" in marks for marks in far.marks)
    assert not any("off the support" in marks for marks in near.marks)
    assert (far.doubt > near.doubt).all()
