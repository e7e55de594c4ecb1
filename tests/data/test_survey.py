"""What happens to images is said once, with a count, before any is decoded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dscm.data.framing import Framing
from dscm.data.survey import survey
from dscm.errors import spell

WIDE, SQUARE = np.zeros((4, 6), np.uint8), np.zeros((6, 6), np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Return a square image, two that are not, a transparent one, one of two frames, and one that is broken."""
    Image.fromarray(SQUARE).save(tmp_path / "a.png")
    Image.fromarray(WIDE).save(tmp_path / "b.png")
    Image.fromarray(WIDE.T).save(tmp_path / "c.jpg")
    Image.new("RGBA", (6, 6)).save(tmp_path / "d.png")
    frames = [Image.fromarray(SQUARE + level) for level in (0, 9)]
    frames[0].save(tmp_path / "e.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "f.png").write_text("text")
    return sorted(tmp_path.iterdir())


def test_each_thing_is_said_once(images: list[Path]) -> None:
    assert [spell(note, "--{}".format) for note in survey(images, Framing())] == [
        "2 of 6 images: not square and stretched to a square; --fit=crop or --fit=pad keeps the aspect",
        "1 of 6 images: transparent in part, or may be; what shows through is black",
        "1 of 6 images: of several frames, of which the first is taken",
    ]


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_who_chose_a_fit_knows(images: list[Path], fit: str) -> None:
    notes = survey(images, Framing(fit))  # type: ignore[arg-type]
    assert len(notes) == 2 and not any("square" in note for note in notes)


def test_images_without_a_file(images: list[Path]) -> None:
    """Opened ones count as their files do, and of an array the height and width."""
    opened = [Image.open(path) for path in images[:5]]
    assert len(survey(opened, Framing())) == 3
    assert survey([(6, 6), (4, 6)], Framing())[0].startswith("1 of 2 images: not square")
    assert survey([(4, 6)], Framing("pad")) == []


def test_losses_are_said_if_images_are_pasted(tmp_path: Path) -> None:
    Image.new("CMYK", (6, 6)).save(tmp_path / "a.jpg")
    assert survey([tmp_path / "a.jpg"], Framing()) == []
    assert survey([tmp_path / "a.jpg"], Framing(), paste=3) == ["1 of 1 images: pasted: CMYK becomes RGB"]
