"""What happens to a folder's images that a user may not expect, found in their headers, before any is decoded."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from dscm.data.framing import Framing
from dscm.data.images import list_formats
from dscm.data.original import find_losses
from dscm.errors import option

SQUEEZED = f"not square and stretched to a square; {option('fit')} crop or {option('fit')} pad keeps the aspect"
TRANSPARENT = "transparent in part, or may be; what shows through is black"
SEVERAL = "of several frames, of which the first is taken"


def survey(paths: Sequence[Path], framing: Framing, paste: int | None = None) -> list[str]:
    """Say what happens to images, each thing once, with the number of images.

    Args:
        paths: the image files; those that cannot be opened are passed over, since reading them says why.
        framing: how they become squares.
        paste: the channels of the model whose answers are pasted into the images; None if none are.

    Returns:
        Sentences, in which settings are named by `option`.
    """
    counts = Counter(words for path in paths for words in _peek(path, framing, paste))
    return [f"{n} of {len(paths)} images: {words}" for words, n in counts.items()]


def _peek(path: Path, framing: Framing, paste: int | None) -> Iterator[str]:
    """Yield what happens to one image."""
    try:
        with Image.open(path, formats=list_formats(path)) as header:
            found = [SQUEEZED] * (framing.fit == "stretch" and header.width != header.height)
            found += [TRANSPARENT] * header.has_transparency_data
            found += [SEVERAL] * getattr(header, "is_animated", False)
            found += [] if paste is None else [f"pasted: {loss}" for loss in find_losses(header, paste)]
    except Exception:  # Pillow raises nearly anything on damaged files
        return
    yield from found
