"""What happens to a folder's images that a user may not expect, found in their headers, before any is decoded."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dscm.data.framing import Framing
from dscm.data.images import list_formats
from dscm.data.original import find_losses
from dscm.errors import option

SQUEEZED = f"not square and stretched to a square; {option('fit')}=crop or {option('fit')}=pad keeps the aspect"
TRANSPARENT = "transparent in part, or may be; what shows through is black"
SEVERAL = "of several frames, of which the first is taken"
Seen = Path | Image.Image | tuple[int, ...]  # a file, an opened image, or the height and width of an array


def survey(images: Sequence[Seen], framing: Framing, paste: int | None = None) -> list[str]:
    """Say what happens to images, each thing once, with the number of images.

    Args:
        images: image files, of which those that cannot be opened are passed over, since reading them says why; opened
            images; and the heights and widths of arrays.
        framing: how they become squares.
        paste: the channels of the model whose answers are pasted into the images; None if none are.

    Returns:
        Sentences, in which settings are named by `option`.
    """
    counts = Counter(words for image in images for words in _peek(image, framing, paste))
    return [f"{n} of {len(images)} images: {words}" for words, n in counts.items()]


def _peek(image: Seen, framing: Framing, paste: int | None) -> list[str]:
    """List what happens to one image."""
    if isinstance(image, tuple):
        return [SQUEEZED] * (framing.fit == "stretch" and len({*image}) > 1)
    if isinstance(image, Image.Image):
        found = [TRANSPARENT] * image.has_transparency_data + [SEVERAL] * getattr(image, "is_animated", False)
        found += [] if paste is None else [f"pasted: {loss}" for loss in find_losses(image, paste)]
        return _peek(image.size, framing, paste) + found
    try:
        with Image.open(image, formats=list_formats(image)) as header:
            return _peek(header, framing, paste)
    except Exception:  # Pillow raises nearly anything on damaged files
        return []
