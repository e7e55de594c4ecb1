"""The parts of a drawn face, from back to front; each attribute shows in its own part alone.

Coordinates are the face's own: the origin between the eyes and the mouth, u to the right, v downwards, -1 at the top
of the head and 1 at the chin. Eyes, brows, ears and cheeks are drawn on both sides at once by way of |u|.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dscm.data.phantoms.canvas import Canvas, band, box, ellipse, segment


class Look(NamedTuple):
    """Say all about a face that no attribute says; colours are RGB in [0, 1], lengths are half heights of the head.

    Every number is of shape (N,), every colour (N, 3).
    """

    shift_x: Tensor  # of the head's middle from the image's, in half heights of the image
    shift_y: Tensor
    angle: Tensor  # rad, to the right
    scale: Tensor  # half height of the head, in half heights of the image
    head_width: Tensor  # half of it
    jaw: Tensor  # added to the half width of the jaw
    skin: Tensor
    blush: Tensor  # opacity of the cheeks' colour
    hair: Tensor
    hair_volume: Tensor  # thickness of the hair on the head
    hair_length: Tensor  # v of its ends; no longer than the cap where that is less than 0
    hairline: Tensor  # v of the middle of the forehead's edge
    parting: Tensor  # u of the parting
    eye: Tensor
    eye_spacing: Tensor  # u of an eye
    eye_openness: Tensor  # half height of an eye
    gaze: Tensor  # u of the iris in the eye
    brow_height: Tensor  # v
    brow_tilt: Tensor  # by how much the outer end is higher
    nose: Tensor  # length
    mouth_width: Tensor  # half of it
    mouth_height: Tensor  # v
    lips: Tensor  # thickness of either lip
    lipstick: Tensor  # colour
    beard: Tensor  # opacity
    frame: Tensor  # colour of the glasses
    lens: Tensor  # half width of a lens
    hat: Tensor  # colour
    brim: Tensor  # half width of the hat's edge beyond the head
    clothes: Tensor  # colour
    backdrop: Tensor  # colour at one end
    backdrop_end: Tensor  # colour at the other
    backdrop_angle: Tensor  # rad
    light: Tensor  # by how much the brighter side gains
    light_angle: Tensor  # rad


def paint_portrait(canvas: Canvas, look: Look, attributes: Mapping[str, Tensor]) -> None:
    """Paint a face with its body, hair and what it wears.

    Args:
        canvas: in the face's own coordinates.
        look: numbers of shape (B, 1, 1), colours (B, 3, 1, 1).
        attributes: 0 or 1 as floats, shape (B, 1, 1), by their names in CelebA-HQ.
    """
    hairy = 1 - attributes["Bald"]
    head = _head(canvas, look, attributes["Male"])
    _paint_back_hair(canvas, look, hairy)
    _paint_body(canvas, look)
    _paint_ears(canvas, look)
    canvas.fill(head, look.skin)
    _paint_cheeks(canvas, look, attributes["Smiling"])
    _paint_beard(canvas, look, head, attributes["Male"])
    _paint_nose(canvas, look)
    _paint_mouth(canvas, look, attributes)
    _paint_eyes(canvas, look)
    _paint_brows(canvas, look, attributes["Male"])
    _paint_front_hair(canvas, look, hairy)
    _paint_glasses(canvas, look, attributes["Eyeglasses"])
    _paint_hat(canvas, look, attributes["Wearing_Hat"])


def _head(canvas: Canvas, look: Look, male: Tensor) -> Tensor:
    """Return the distance to the head's outline: a skull, and a jaw that is broader in men."""
    skull = ellipse(canvas.x, canvas.y + 0.22, look.head_width, 0.78)
    jaw = ellipse(canvas.x, canvas.y - 0.28, look.head_width * 0.8 + look.jaw + 0.13 * male, 0.72)
    return torch.maximum(skull, jaw)


def _paint_back_hair(canvas: Canvas, look: Look, hairy: Tensor) -> None:
    """Paint the hair that falls behind the head, from where the cap of `_paint_front_hair` is widest."""
    width, drop = look.head_width + look.hair_volume + 0.02, look.hair_length + 0.3
    fall = torch.minimum(box(canvas.x, canvas.y + 0.3, width, drop, 0.2), canvas.y + 0.3)
    canvas.fill(fall, 0.8 * look.hair, hairy)


def _paint_body(canvas: Canvas, look: Look) -> None:
    """Paint the neck, in the chin's shadow, and the shoulders."""
    canvas.fill(box(canvas.x, canvas.y - 0.9, 0.36, 0.6, 0.1), 0.82 * look.skin)
    canvas.fill(ellipse(canvas.x, canvas.y - 1.95, 1.3, 0.72), look.clothes)
    canvas.fill(ellipse(canvas.x, canvas.y - 1.2, 0.4, 0.24), 0.82 * look.skin)


def _paint_ears(canvas: Canvas, look: Look) -> None:
    """Paint both ears."""
    x, y = canvas.x.abs() - look.head_width, canvas.y - 0.02
    canvas.fill(ellipse(x, y, 0.12, 0.19), 0.92 * look.skin)
    canvas.fill(ellipse(x, y, 0.06, 0.11), 0.75 * look.skin, 0.6)


def _paint_cheeks(canvas: Canvas, look: Look, smiling: Tensor) -> None:
    """Paint rosy cheeks, rosier in a smile."""
    red = look.skin * look.skin.new_tensor([1.0, 0.62, 0.6])[:, None, None]
    cheek = ellipse(canvas.x.abs() - 0.43, canvas.y - 0.33, 0.2, 0.15)
    canvas.fill(cheek, red, look.blush + 0.3 * smiling, soft=0.12)


def _paint_beard(canvas: Canvas, look: Look, head: Tensor, male: Tensor) -> None:
    """Paint the shadow of a beard over the jaw, chin and upper lip."""
    bare = ellipse(canvas.x, canvas.y - 0.02, look.head_width * 0.78, 0.4)
    beard = torch.minimum(torch.minimum(head, -bare), canvas.y - 0.1)
    canvas.fill(beard, 0.3 * look.hair + 0.1 * look.skin, male * look.beard, soft=0.05)


def _paint_nose(canvas: Canvas, look: Look) -> None:
    """Paint the nose: the shadow of its side, and its tip."""
    shade, tip = 0.78 * look.skin, 0.02 + look.nose
    canvas.fill(segment(canvas.x, canvas.y, (0.05, 0.0), (0.1, tip - 0.03)) + 0.025, shade, 0.6)
    canvas.fill(ellipse(canvas.x, canvas.y - tip, 0.12, 0.05), 0.7 * look.skin, 0.8)
    canvas.fill(ellipse(canvas.x + 0.02, canvas.y - tip + 0.07, 0.05, 0.06), (1.15 * look.skin).clamp(max=1), 0.7)


def _paint_mouth(canvas: Canvas, look: Look, attributes: Mapping[str, Tensor]) -> None:
    """Paint the lips, which a smile bends and widens, and between them, where they part, the teeth."""
    smiling, parted = attributes["Smiling"], attributes["Mouth_Slightly_Open"]
    width = look.mouth_width * (1 + 0.3 * smiling)
    bow = (1 - (canvas.x / width).square()).clamp(min=-0.5)  # 1 in the middle, 0 at the corners
    middle = look.mouth_height + (0.16 * smiling + 0.005) * (bow - 0.4)
    gap = 0.17 * parted * bow
    top, bottom = middle - gap * (0.6 - 0.3 * smiling), middle + gap * (0.4 + 0.3 * smiling)
    full = look.lips * bow.clamp_min(0).sqrt()
    natural = torch.lerp(look.skin, look.skin.new_tensor([0.72, 0.2, 0.2])[:, None, None], 0.4)
    colour = torch.lerp(natural, look.lipstick, attributes["Wearing_Lipstick"][:, None])
    inside = torch.minimum(band(canvas.y, top - full, bottom + 1.2 * full), width - canvas.x.abs())
    canvas.fill(inside, colour)
    hole = band(canvas.y, top - 0.012, bottom + 0.012)  # where the lips meet, a thin line
    canvas.fill(torch.minimum(hole, width - canvas.x.abs()), 0.3 * natural)
    teeth = torch.minimum(band(canvas.y, top, torch.minimum(bottom - 0.05, top + 0.09)), 0.85 * width - canvas.x.abs())
    canvas.fill(teeth, torch.full_like(colour, 0.97), parted)


def _paint_eyes(canvas: Canvas, look: Look) -> None:
    """Paint lashes, whites, irises, pupils and highlights; not mirrored, so that both eyes look the same way."""
    x = canvas.x - torch.where(canvas.x < 0, -look.eye_spacing, look.eye_spacing)
    y = canvas.y + 0.06
    canvas.fill(ellipse(x, y + 0.03, 0.19, look.eye_openness + 0.02), 0.25 * look.hair)
    white = ellipse(x, y, 0.17, look.eye_openness)
    canvas.fill(white, torch.full_like(look.eye, 0.97))
    for radius, colour in ((0.1, look.eye), (0.05, 0.08 * look.eye)):
        canvas.fill(torch.minimum(ellipse(x - look.gaze, y, radius, radius), white), colour)
    canvas.fill(ellipse(x - look.gaze + 0.04, y + 0.04, 0.035, 0.035), torch.ones_like(look.eye))


def _paint_brows(canvas: Canvas, look: Look, male: Tensor) -> None:
    """Paint the brows, heavier in men."""
    x = canvas.x.abs() - look.eye_spacing
    inner, outer = (-0.17, look.brow_height), (0.2, look.brow_height - look.brow_tilt)
    canvas.fill(segment(x, canvas.y, inner, outer) + 0.03 + 0.03 * male, 0.6 * look.hair)


def _paint_front_hair(canvas: Canvas, look: Look, hairy: Tensor) -> None:
    """Paint the hair on the head, parted above the forehead, and in front of the ears."""
    cap = ellipse(canvas.x, canvas.y + 0.22, look.head_width + look.hair_volume, 0.78 + look.hair_volume)
    forehead = ellipse(canvas.x - look.parting, canvas.y - 0.3, look.head_width * 0.97, 0.3 - look.hairline)
    hair = torch.minimum(torch.minimum(cap, -forehead), -0.02 - canvas.y)
    canvas.fill(hair, look.hair, hairy)
    shine = ellipse(canvas.x + 0.25, canvas.y + 0.8, 0.3, 0.1)
    canvas.fill(torch.minimum(shine, hair), (1.3 * look.hair + 0.08).clamp(max=1), 0.6 * hairy, soft=0.08)


def _paint_glasses(canvas: Canvas, look: Look, worn: Tensor) -> None:
    """Paint the glasses: lenses with a faint glare, their frames, the bridge and the arms."""
    x, y = canvas.x.abs(), canvas.y + 0.04
    lenses = ellipse(x - look.eye_spacing, y, look.lens, 0.215)
    canvas.fill(lenses, torch.ones_like(look.frame), 0.16 * worn)
    arm = segment(x, y, (look.eye_spacing + look.lens, -0.03), (look.head_width, -0.06))
    bridge = segment(x, y, (0.0, -0.05), (look.eye_spacing - look.lens, -0.02))
    frame = torch.maximum(-lenses.abs(), torch.maximum(arm, bridge)) + 0.035
    canvas.fill(frame, look.frame, worn)


def _paint_hat(canvas: Canvas, look: Look, worn: Tensor) -> None:
    """Paint a hat that covers the hair: its crown, and an edge that may be a brim."""
    crown = ellipse(canvas.x, canvas.y + 0.5, look.head_width + 0.2, 0.85)
    canvas.fill(torch.minimum(crown, -0.5 - canvas.y), look.hat, worn)
    reach = look.head_width + look.brim
    canvas.fill(segment(canvas.x, canvas.y + 0.5, (-reach, 0.0), (reach, 0.0)) + 0.085, 0.7 * look.hat, worn)
