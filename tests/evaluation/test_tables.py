"""The tables of an evaluation, of numbers that are chosen."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm.evaluation.comparisons import find_groups, write_differences
from dscm.evaluation.records import Records
from dscm.evaluation.route import Route
from dscm.evaluation.statistics import mean_over
from dscm.evaluation.tables import markdown
from dscm.graphs import get_graph
from tests.evaluation.test_records import BASELINE, CONDITIONS, PLAIN, ROUTE

GRAPH = get_graph("morphomnist-digit")


def values(composition: float, hits: int) -> dict[tuple[str, ...], Tensor]:
    """Return the numbers of eight images: two of them do not change, and ``hits`` of the six that do are obeyed."""
    right = (torch.arange(8) < hits).float()
    changed = torch.arange(8) < 6
    distances = {
        ("composition", "digit", "l1"): torch.full((8, 1), composition),
        ("composition", "digit", "l1_8bit"): torch.full((8, 1), composition + 0.001),
        ("reversibility", "digit", "l1"): torch.full((8, 1), 0.02),
        ("reversibility", "digit", "l1_8bit"): torch.full((8, 1), 0.03),
        ("identity", "digit", "l1"): torch.full((8,), 0.05),
    }
    accuracy = {"accuracy": (~changed).float() + right, "changed_accuracy": mean_over(right, changed)}
    errors = {("effectiveness", "digit", "digit", name): value for name, value in accuracy.items()}
    return distances | errors | {("oracle", "digit", "accuracy"): torch.ones(8), ("seconds",): torch.full((8,), 0.1)}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Three trainings: two of one setting, and one that stands alone."""
    records = Records(tmp_path / "out", CONDITIONS, overwrite=False)
    images = {"observation": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}
    for sha256, group, composition, hits in (("a", "ours", 0.01, 3), ("b", "ours", 0.03, 6), ("c", None, 0.5, 0)):
        records.add(replace(PLAIN, sha256=sha256, group=group), sha256, values(composition, hits), images)
    return records


def cells(text: str, start: str) -> list[list[str]]:
    """Return the cells of the lines of a table that begin with a text."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(start)]


def test_trainings_of_one_setting_have_their_mean_and_spread(records: Records) -> None:
    """Compositions of 1 and 3, so 2 ± √2; accuracies of 50 and 100% of the images that change."""
    (members,) = find_groups(records.records).values()
    assert [record.configuration.sha256 for record in members] == ["a", "b"]
    (line,) = cells(markdown(records, GRAPH), "| ours: ")
    assert line[:3] == ["ours: semantic ω=1.5", "2", "2.000 ± 1.414 [2.000, 2.000]"]
    assert line[4].startswith("75.000 ± 35.355 [")


def test_a_corrected_row_is_said_to_be_judged_by_what_corrected_it(records: Records) -> None:
    """In the caption, and only where there is such a row."""
    assert "Corrected:" not in markdown(records, GRAPH)
    images = {"observation": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}
    records.add(replace(PLAIN, variant="corrected 1x"), "d", values(0.01, 6), images)
    text = markdown(records, GRAPH)
    assert "Corrected: by the measurement that also judges" in text and "corrected 1x ω=1.5" in text


def test_changed_images_and_all_images_stand_apart(records: Records) -> None:
    """Half of the six that change and both that do not: 50% of the former, five of the eight in all."""
    text = markdown(records, GRAPH)
    assert cells(text, "| semantic")[0][2:4] == ["1.000 [1.000, 1.000]", "1.100 [1.100, 1.100]"]
    changed, everyone = text.split("Effectiveness on the images")[1].split("On all images")
    assert cells(changed, "| semantic")[0][2].startswith("50.0 [")
    assert cells(everyone, "| semantic")[0][2].startswith("62.5 [")
    assert cells(text, "| oracle")[0] == ["oracle", "none", "100.0 [100.0, 100.0]"]


def test_rows_that_lack_a_column_stand_beside_those_that_have_it(tmp_path: Path) -> None:
    """As where weights were missing once; what all images have together has no interval, and no error where unknown."""
    records = Records(tmp_path / "out", CONDITIONS, overwrite=False)
    resemblance = {
        ("realism", "observation", "alexnet_kernel"): torch.full((8,), 0.001),
        ("realism", "digit", "alexnet_kernel"): torch.full((8,), 0.002),
        ("realism", "digit", "alexnet_frechet"): torch.tensor([7.0]),
        ("minimality", "digit", "alexnet_cld"): mean_over(torch.full((8,), 0.5), torch.arange(8) < 6),
    }
    probe = {name: torch.tensor([number]) for name, number in (("linear", 0.5), ("perceptron", 0.7), ("chance", 0.1))}
    probe |= {"linear_error": torch.tensor([0.01]), "perceptron_error": torch.tensor([torch.nan])}
    found = {("probe", "digit accuracy", name): value for name, value in probe.items()}
    for sha256, more in (("a", {}), ("b", resemblance | found), ("c", resemblance)):
        records.add(replace(PLAIN, sha256=sha256), sha256, values(0.01, 3) | more, {})
    text = markdown(records, GRAPH)
    assert cells(text, "| real images")[0][2:] == ["1.000 [1.000, 1.000]", "–", "–"]
    lines = [line[2:] for line in cells(text.split("Realism and minimality")[1], "| semantic") if len(line) == 5]
    assert lines == 2 * [["2.000 [2.000, 2.000]", "7.000", "0.500 [0.500, 0.500]"]]
    assert "| digit accuracy | 0.500 ± 0.010 | 0.700 | 0.100 |" in text
    differences = write_differences(records).splitlines()
    assert [line.partition(",")[2].split(",")[2:] for line in differences if "frechet" in line] == [["0.0", "", ""]]


def test_rows_along_several_paths_say_so(tmp_path: Path) -> None:
    """The head lists the paths, each row names its own, and so do the differences of two rows."""
    records = Records(tmp_path / "out", CONDITIONS, overwrite=False)
    records.add(PLAIN, "a", values(0.01, 3), {})
    records.add(BASELINE, "b", values(0.03, 3), {})
    single = markdown(records, GRAPH)
    words = "20 steps of ddim, implicit steps of 2 evaluation(s), grid edm to σ = 0.01"
    assert f"marginal interventions, {words}, bfloat16, guided at σ from 1 to 1000, 1 cycle(s)" in single
    assert "path 1" not in single and "differ in that" not in single
    fitted = Route(2, "σ = 80, 1, 0.05", 0.05, "trapezoid", 1, (0.2, 3.0))
    records.add(replace(PLAIN, sha256="c", route=fitted), "c", values(0.5, 3), {})
    text = markdown(records, GRAPH)
    assert "marginal interventions, each row along its path, bfloat16, each row guided in its interval, 1" in text
    assert f"\n- path 1: {words}\n- path 2: 2 steps of trapezoid, implicit steps of 1 " in text
    labels = [line[0] for line in cells(text, "| semantic") + cells(text, "| vae")]
    assert {"path 1 guided at σ from 1 to 1000 ω=1.5", "path 2 guided at σ from 0.2 to 3 ω=1.5"} == {
        label.partition(") ")[2] for label in labels if label.startswith("semantic")
    }
    assert {label for label in labels if label.startswith("vae")} == {"vae without pixel noise mix=1"}
    assert "; rows along another path, or guided elsewhere, differ in that, too:" in text
    lines = [line for line in write_differences(records).splitlines() if "semantic" in line.partition("vae")[0]]
    assert any("path 2" in line and "path 1" in line for line in lines)


def test_trainings_along_several_paths_say_so(records: Records) -> None:
    """Their mean is that of trainings whose levels were each fitted, perhaps."""
    other = replace(PLAIN, sha256="d", group="ours", route=replace(ROUTE, steps=3))
    records.add(other, "d", values(0.02, 3), {})
    (line,) = cells(markdown(records, GRAPH), "| ours: ")
    assert line[:2] == ["ours: semantic ω=1.5 along 2 paths", "3"]
