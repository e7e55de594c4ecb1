"""Images and questions that a model cannot know."""

import torch

from dscm.causal.support import RARE, Support
from dscm.data.phantoms.shapes import draw_shapes
from dscm.evaluation.foreign import detect_far, detect_foreign, draw_foreign
from dscm.evaluation.task import set_task
from dscm.graphs import get_graph
from dscm.model import load

GRAPH = get_graph("morphomnist")


def test_shapes_are_light_on_black_and_differ() -> None:
    images = draw_shapes(12, 28, torch.Generator().manual_seed(0))
    assert images.shape == (12, 1, 28, 28) and images.dtype == torch.uint8
    assert (images[..., 0, 0] == 0).all() and (images.amax(dim=(1, 2, 3)) > 100).all()
    assert len({image.numpy().tobytes() for image in images}) == 12
    again = draw_shapes(12, 28, torch.Generator().manual_seed(0))
    assert torch.equal(images, again)


def test_foreign_images_have_the_shape_of_the_usual_ones() -> None:
    usual = torch.randint(256, (5, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    kinds = draw_foreign(usual, one_sided=True, seed=0)
    assert kinds.keys() == {"inverted", "mirrored", "noise", "shapes", "drawn faces"}
    assert all(images.shape == usual.shape and images.dtype == torch.uint8 for images in kinds.values())
    assert torch.equal(kinds["inverted"], 255 - usual) and torch.equal(kinds["mirrored"].flip(-1), usual)
    assert draw_foreign(usual, one_sided=False, seed=0).keys() == kinds.keys() - {"mirrored"}


def test_questions_outside_the_training_data_are_told_from_those_within() -> None:
    """Of the three numbers that have a range; a slant is a direction, and has none."""
    data = GRAPH.scm().sample(600, torch.Generator().manual_seed(0))
    support = Support.fit(GRAPH.attributes, data, torch.Generator().manual_seed(1))
    some = GRAPH.scm().sample(60, torch.Generator().manual_seed(2))
    task = set_task(GRAPH, {**some, "image": torch.zeros(60, 1, 28, 28, dtype=torch.uint8)}, "marginal", 0)
    found = detect_far(support, GRAPH, task, seed=0)
    kinds = {kind for _, kind, _ in found}
    assert "thickness outside" in kinds and "digit outside" not in kinds
    for kind in kinds:
        assert found["detection", kind, "area"].item() > 0.9
        assert found["detection", kind, "alarmed"].double().mean() > 0.5 > RARE


def test_without_a_reference_nothing_is_said_of_foreign_images() -> None:
    model = load("morphomnist")
    inspector = model.inspector
    bare = type(inspector)(inspector.graph, inspector.oracle, inspector.support)
    image = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    task = set_task(GRAPH, {**GRAPH.scm().sample(3, torch.Generator().manual_seed(0)), "image": image}, "marginal", 0)
    assert detect_foreign(model.scm, bare, task, seed=0) == {}
