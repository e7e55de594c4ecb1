"""The closing line about a folder of answers."""

from dscm.folder.trust import summarise


def row(
    image: str, mark: str = "", odd: str = "x given the others", moved: str = "", missed: str = ""
) -> dict[str, str]:
    """Make what the line needs of a row."""
    return {"image": image, "mark": mark, "odd": odd, "moved": moved, "missed": missed}


def test_the_line_counts_answers_and_images() -> None:
    rows = [row("a"), row("b", "missed its target", missed="x"), row("c", "side effect", moved="y; z")]
    rows += [row("d", "off the support; unlike the training data", "thickness above 6 px")] * 2
    assert summarise(rows) == (
        "4 of 5 answers met their target; 2 lie off the support (thickness above 6 px); 1 image is unlike the training "
        "data; 1 has side effects (mostly on y)"
    )
    assert summarise([row("a")]) == "1 of 1 answers met their target"
