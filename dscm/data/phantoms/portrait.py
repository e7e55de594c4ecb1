"""The parts of a synthetic face, from back to front; each attribute changes only its own part.

Coordinates are relative to the head: the origin is between the eyes and the mouth, u points right and v down, from -1
at the top of the head to 1 at the chin. Brows, ears and cheeks are symmetric, drawn as functions of |u|.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dscm.data.phantoms.canvas import Canvas, band, box, ellipse, segment


class Look(NamedTuple):
    """Everything in a face besides its attributes and noise.

    Numbers are (N,), colours RGB in [0, 1], (N, 3). Lengths are in half heights of the head unless stated otherwise.
    """

    shift_x: Tensor  # offset of the head from the image's centre, in half heights of the image
    shift_y: Tensor
    angle: Tensor  # rotation to the right in radians
    scale: Tensor  # half height of the head, in half heights of the image
    head_width: Tensor  # half width of the head
    jaw: Tensor  # added to the half width of the jaw
    skin: Tensor  # colour
    blush: Tensor  # opacity of the cheeks' colour
    hair: Tensor  # colour
    hair_volume: Tensor  # thickness of the hair on the head
    hair_length: Tensor  # v of the ends of the hair behind the head; below 0, hardly any is visible
    hairline: Tensor  # v of the hairline at its centre
    parting: Tensor  # u of the parting
    eye: Tensor  # colour of the iris
    eye_spacing: Tensor  # |u| of an eye
    eye_openness: Tensor  # half height of an eye
    gaze: Tensor  # u of the iris relative to the eye
    brow_height: Tensor  # v of the inner end of a brow
    brow_tilt: Tensor  # elevation of its outer end
    nose: Tensor  # length
    mouth_width: Tensor  # half width of the mouth
    mouth_height: Tensor  # v of the mouth
    lips: Tensor  # thickness of a lip
    lipstick: Tensor  # colour
    beard: Tensor  # opacity
    frame: Tensor  # colour of the glasses
    lens: Tensor  # half width of a lens
    hat: Tensor  # colour
    brim: Tensor  # width of the brim beyond the head
    clothes: Tensor  # colour
    backdrop: Tensor  # colour at one end of the background
    backdrop_end: Tensor  # colour at its other end
    backdrop_angle: Tensor  # direction of the background's gradient in radians
    light: Tensor  # relative gain of the brighter side
    light_angle: Tensor  # direction of the light in radians


def paint_portrait(canvas: Canvas, look: Look, attributes: Mapping[str, Tensor]) -> None:
    """Paint faces with neck, shoulders, hair and accessories.

    Args:
        canvas: a canvas in the coordinates of the faces.
        look: numbers of shape (B, 1, 1), colours of shape (B, 3, 1, 1).
        attributes: the attributes of CelebA-HQ by name, 0.0 or 1.0, (B, 1, 1).
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
    """Return the distance to the head's outline: a skull, and a jaw that is wider in men."""
    skull = ellipse(canvas.x, canvas.y + 0.22, look.head_width, 0.78)
    jaw = ellipse(canvas.x, canvas.y - 0.28, look.head_width * 0.8 + look.jaw + 0.13 * male, 0.72)
    return torch.maximum(skull, jaw)


def _paint_back_hair(canvas: Canvas, look: Look, hairy: Tensor) -> None:
    """Paint the hair behind the head, down from where the cap of `_paint_front_hair` is widest."""
    width, drop = look.head_width + look.hair_volume + 0.02, look.hair_length + 0.3
    fall = torch.minimum(box(canvas.x, canvas.y + 0.3, width, drop, 0.2), canvas.y + 0.3)
    canvas.fill(fall, 0.8 * look.hair, hairy)


def _paint_body(canvas: Canvas, look: Look) -> None:
    """Paint the shaded neck and the shoulders."""
    canvas.fill(box(canvas.x, canvas.y - 0.9, 0.36, 0.6, 0.1), 0.82 * look.skin)
    canvas.fill(ellipse(canvas.x, canvas.y - 1.95, 1.3, 0.72), look.clothes)
    canvas.fill(ellipse(canvas.x, canvas.y - 1.2, 0.4, 0.24), 0.82 * look.skin)


def _paint_ears(canvas: Canvas, look: Look) -> None:
    """Paint both ears."""
    x, y = canvas.x.abs() - look.head_width, canvas.y - 0.02
    canvas.fill(ellipse(x, y, 0.12, 0.19), 0.92 * look.skin)
    canvas.fill(ellipse(x, y, 0.06, 0.11), 0.75 * look.skin, 0.6)


def _paint_cheeks(canvas: Canvas, look: Look, smiling: Tensor) -> None:
    """Paint the cheeks, redder in a smile."""
    red = look.skin * look.skin.new_tensor([1.0, 0.62, 0.6])[:, None, None]
    cheek = ellipse(canvas.x.abs() - 0.43, canvas.y - 0.33, 0.2, 0.15)
    canvas.fill(cheek, red, look.blush + 0.3 * smiling, soft=0.12)


def _paint_beard(canvas: Canvas, look: Look, head: Tensor, male: Tensor) -> None:
    """Paint a beard over jaw, chin and upper lip."""
    bare = ellipse(canvas.x, canvas.y - 0.02, look.head_width * 0.78, 0.4)
    beard = torch.minimum(torch.minimum(head, -bare), canvas.y - 0.1)
    canvas.fill(beard, 0.3 * look.hair + 0.1 * look.skin, male * look.beard, soft=0.05)


def _paint_nose(canvas: Canvas, look: Look) -> None:
    """Paint the nose: a shaded side and a tip."""
    shade, tip = 0.78 * look.skin, 0.02 + look.nose
    canvas.fill(segment(canvas.x, canvas.y, (0.05, 0.0), (0.1, tip - 0.03)) + 0.025, shade, 0.6)
    canvas.fill(ellipse(canvas.x, canvas.y - tip, 0.12, 0.05), 0.7 * look.skin, 0.8)
    canvas.fill(ellipse(canvas.x + 0.02, canvas.y - tip + 0.07, 0.05, 0.06), (1.15 * look.skin).clamp(max=1), 0.7)


def _paint_mouth(canvas: Canvas, look: Look, attributes: Mapping[str, Tensor]) -> None:
    """Paint lips, which a smile bends and widens, and teeth between parted lips."""
    smiling, parted = attributes["Smiling"], attributes["Mouth_Slightly_Open"]
    width = look.mouth_width * (1 + 0.3 * smiling)
    bow = (1 - (canvas.x / width).square()).clamp(min=-0.5)  # 1 at the centre, 0 at the corners
    middle = look.mouth_height + (0.16 * smiling + 0.005) * (bow - 0.4)
    gap = 0.17 * parted * bow
    top, bottom = middle - gap * (0.6 - 0.3 * smiling), middle + gap * (0.4 + 0.3 * smiling)
    full = look.lips * bow.clamp_min(0).sqrt()
    natural = torch.lerp(look.skin, look.skin.new_tensor([0.72, 0.2, 0.2])[:, None, None], 0.4)
    colour = torch.lerp(natural, look.lipstick, attributes["Wearing_Lipstick"][:, None])
    inside = torch.minimum(band(canvas.y, top - full, bottom + 1.2 * full), width - canvas.x.abs())
    canvas.fill(inside, colour)
    hole = band(canvas.y, top - 0.012, bottom + 0.012)  # a thin line between closed lips
    canvas.fill(torch.minimum(hole, width - canvas.x.abs()), 0.3 * natural)
    teeth = torch.minimum(band(canvas.y, top, torch.minimum(bottom - 0.05, top + 0.09)), 0.85 * width - canvas.x.abs())
    canvas.fill(teeth, torch.full_like(colour, 0.97), parted)


def _paint_eyes(canvas: Canvas, look: Look) -> None:
    """Paint lashes, whites, irises, pupils and highlights, not mirrored, so that both eyes look the same way."""
    x = canvas.x - torch.where(canvas.x < 0, -look.eye_spacing, look.eye_spacing)
    y = canvas.y + 0.06
    canvas.fill(ellipse(x, y + 0.03, 0.19, look.eye_openness + 0.02), 0.25 * look.hair)
    white = ellipse(x, y, 0.17, look.eye_openness)
    canvas.fill(white, torch.full_like(look.eye, 0.97))
    for radius, colour in ((0.1, look.eye), (0.05, 0.08 * look.eye)):
        canvas.fill(torch.minimum(ellipse(x - look.gaze, y, radius, radius), white), colour)
    canvas.fill(ellipse(x - look.gaze + 0.04, y + 0.04, 0.035, 0.035), torch.ones_like(look.eye))


def _paint_brows(canvas: Canvas, look: Look, male: Tensor) -> None:
    """Paint the brows, thicker in men."""
    x = canvas.x.abs() - look.eye_spacing
    inner, outer = (-0.17, look.brow_height), (0.2, look.brow_height - look.brow_tilt)
    canvas.fill(segment(x, canvas.y, inner, outer) + 0.03 + 0.03 * male, 0.6 * look.hair)


def _paint_front_hair(canvas: Canvas, look: Look, hairy: Tensor) -> None:
    """Paint the hair on the head, around the forehead and over the ears."""
    cap = ellipse(canvas.x, canvas.y + 0.22, look.head_width + look.hair_volume, 0.78 + look.hair_volume)
    forehead = ellipse(canvas.x - look.parting, canvas.y - 0.3, look.head_width * 0.97, 0.3 - look.hairline)
    hair = torch.minimum(torch.minimum(cap, -forehead), -0.02 - canvas.y)
    canvas.fill(hair, look.hair, hairy)
    shine = ellipse(canvas.x + 0.25, canvas.y + 0.8, 0.3, 0.1)
    canvas.fill(torch.minimum(shine, hair), (1.3 * look.hair + 0.08).clamp(max=1), 0.6 * hairy, soft=0.08)


def _paint_glasses(canvas: Canvas, look: Look, worn: Tensor) -> None:
    """Paint glasses: lenses with a faint glare, frames, bridge and arms."""
    x, y = canvas.x.abs(), canvas.y + 0.04
    lenses = ellipse(x - look.eye_spacing, y, look.lens, 0.215)
    canvas.fill(lenses, torch.ones_like(look.frame), 0.16 * worn)
    arm = segment(x, y, (look.eye_spacing + look.lens, -0.03), (look.head_width, -0.06))
    bridge = segment(x, y, (0.0, -0.05), (look.eye_spacing - look.lens, -0.02))
    frame = torch.maximum(-lenses.abs(), torch.maximum(arm, bridge)) + 0.035
    canvas.fill(frame, look.frame, worn)


def _paint_hat(canvas: Canvas, look: Look, worn: Tensor) -> None:
    """Paint a hat over the hair: a crown and a brim."""
    crown = ellipse(canvas.x, canvas.y + 0.5, look.head_width + 0.2, 0.85)
    canvas.fill(torch.minimum(crown, -0.5 - canvas.y), look.hat, worn)
    reach = look.head_width + look.brim
    canvas.fill(segment(canvas.x, canvas.y + 0.5, (-reach, 0.0), (reach, 0.0)) + 0.085, 0.7 * look.hat, worn)
