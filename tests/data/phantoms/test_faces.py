"""Drawn faces: each attribute changes its own part alone, and as often as the graph says."""

import pytest
import torch
from torch import Tensor

from dscm.data.phantoms import faces
from dscm.graphs import GRAPHS

SEED = 3
FACES, BREASTS = torch.arange(24), torch.arange(12)


def flip_faces(name: str) -> tuple[Tensor, Tensor]:
    """Draw faces without and with an attribute: absolute differences (N, SIZE, SIZE), and u and v of every pixel."""
    nuisance, attributes = faces.draw_nuisance(SEED, FACES), faces.draw_attributes(SEED, FACES)
    if name == "Bald":  # a hat hides most of the scalp
        attributes["Wearing_Hat"] = torch.zeros_like(FACES)
    without, with_it = (
        faces.render(nuisance, attributes | {name: torch.full_like(FACES, value)}).int() for value in (0, 1)
    )
    return (with_it - without).abs().amax(dim=1), torch.stack(faces.locate(nuisance.look))


def may_change(name: str, u: Tensor, v: Tensor) -> Tensor:
    """Tell which pixels of a face belong to an attribute, u and v being the face's own coordinates."""
    u = u.abs()
    match name:
        case "Smiling":
            return (u < 0.75) & (v > 0.05) & (v < 0.95)
        case "Mouth_Slightly_Open" | "Wearing_Lipstick":
            return (u < 0.48) & (v > 0.28) & (v < 0.95)
        case "Eyeglasses":
            return (u < 0.9) & (v > -0.35) & (v < 0.28)
        case "Male":  # brows, jaw and beard; neither eyes nor nose nor hair
            return (v > -0.5) & (v < 1.1) & (u < 0.9) & ((v < -0.15) | (v > 0.2) | (u > 0.4))
        case "Bald":
            return (v < -0.25) | (u > 0.3)
        case "Wearing_Hat":
            return v < -0.35
    raise AssertionError(name)


@pytest.mark.parametrize("name", list(faces.CAUSES))
def test_an_attribute_of_a_face_changes_its_part_alone(name: str) -> None:
    difference, (u, v) = flip_faces(name)
    assert not (difference.bool() & ~may_change(name, u, v)).any()


@pytest.mark.parametrize("name", list(faces.CAUSES))
def test_an_attribute_of_a_face_shows(name: str) -> None:
    difference, _ = flip_faces(name)
    assert ((difference > 20).sum(dim=(1, 2)) >= 12).all()


def test_a_man_without_a_beard_has_a_broader_jaw() -> None:
    look, noise = faces.draw_nuisance(SEED, FACES)
    nuisance = faces.Nuisance(look._replace(beard=torch.zeros(len(FACES))), noise)
    bald = {name: torch.full_like(FACES, int(name == "Bald")) for name in faces.CAUSES}
    woman, man = (faces.render(nuisance, bald | {"Male": torch.full_like(FACES, value)}).int() for value in (0, 1))
    _, v = faces.locate(look)
    changed = ((man - woman).abs().amax(dim=1) > 20) & (v > 0.2) & (v < 0.9)
    assert (changed.sum(dim=(1, 2)) >= 8).float().mean() > 0.9  # skin may look like the background


def test_faces_follow_the_graph() -> None:
    """Smiles open mouths as often as stated, within five standard errors, and nothing else of the table is off."""
    n = 4000
    values = faces.draw_attributes(SEED, torch.arange(n))
    assert list(values) == list(GRAPHS["celebahq"].image_parents) and faces.CAUSES["Mouth_Slightly_Open"][1] == (
        0.25,
        0.75,
    )
    for name, (parent, shares) in faces.CAUSES.items():
        for value, share in enumerate(shares):
            own = values[name][values[parent] == value] if parent else values[name]
            error = (share * (1 - share) / len(own)) ** 0.5
            assert abs(own.double().mean() - share) < 5 * error, f"{name} where {parent} is {value}"
