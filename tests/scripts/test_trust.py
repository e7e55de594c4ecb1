"""How far to trust answers, as the user of counterfactual.py and of Python sees it."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import dscm
from dscm import checkpoint
from dscm.trust.checks import MARKS
from dscm.trust.reference import Reference
from tests.support.scripts import FAST, TrainingRun, call_script, read_table, succeed

ASKED = ("--do", "thickness=9.5", "--do", "digit=3")


@pytest.fixture(scope="module")
def strict(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two queries, with doubtful answers kept apart and pages that explain."""
    out = tmp_path_factory.mktemp("strict")
    done = call_script("counterfactual.py", digits, *ASKED, "--strict", "--explain", "--out", out, *FAST)
    assert done.returncode == 1 and not done.stderr.count("Traceback")
    return out


def test_each_answer_has_a_row(strict: Path) -> None:
    """In the order of the other table, with its checks; what is not known is empty."""
    rows, answers = read_table(strict / "trust.csv"), read_table(strict / "counterfactuals.csv")
    assert [(row["image"], row["query"]) for row in rows] == [(row["image"], row["query"]) for row in answers]
    for row in rows:
        assert set(filter(None, row["mark"].split("; "))) <= {*MARKS}
        assert 0 <= float(row["support"]) <= 1 and float(row["composition"]) >= 0 and float(row["identity"]) >= 0
        if row["query"] == "thickness=9.5":
            assert "off the support" in row["mark"] and row["odd"].startswith("thickness above 6")
    assert not any("doubtful" in row["mark"] for row in rows)


def test_doubtful_answers_are_kept_apart(strict: Path) -> None:
    """Each picture is in one of both places, as its row says."""
    for row in read_table(strict / "trust.csv"):
        name = f"{Path(row['image']).stem}__{row['query']}.png"
        apart, beside = strict / "doubtful" / name, strict / name
        assert (apart.is_file(), beside.is_file()) == (bool(row["mark"]), not row["mark"])


def test_a_page_of_each_image_needs_nothing_else(strict: Path) -> None:
    for i in range(6):
        with Image.open(strict / "explained" / f"{i}.png") as picture:
            assert picture.height > 8 * 56
        text = (strict / "explained" / f"{i}.html").read_text(encoding="utf-8")
        sources = re.findall(r'src="([^"]*)"', text)
        assert len(sources) == 3 and all(source.startswith("data:image/png;base64,") for source in sources)
        assert (
            "do(thickness=9.5)" in text and "Support: 0% of the training data" in text and "thickness should be" in text
        )


def test_the_same_command_finds_its_answers_again(strict: Path, digits: Path) -> None:
    """In both places; one that is gone is answered again."""
    asked = ("counterfactual.py", digits, *ASKED, "--strict", "--explain", "--out", strict, *FAST)
    again = call_script(*asked)
    assert "6 images (6 of them earlier)" in again.stdout
    next((strict / "doubtful").glob("0__*")).unlink()
    (strict / "explained" / "1.html").unlink()
    assert "6 images (4 of them earlier)" in call_script(*asked).stdout
    assert (strict / "explained" / "1.html").is_file() and [*(strict / "doubtful").glob("0__*")]


def test_a_training_leaves_what_answers_are_compared_with(
    semantic_run: TrainingRun, digits: Path, tmp_path: Path
) -> None:
    """And an answer from Python has the checks that the table has."""
    restored = checkpoint.restore_image(semantic_run.checkpoint, torch.device("cpu"))
    reference = restored.reference
    assert isinstance(reference, Reference) and reference.noise and reference.composition is not None
    assert reference.identity.keys() == {"thickness", "intensity", "digit", "slant"}
    assert reference.errors.keys() == {"thickness", "intensity", "slant"}
    assert all(len(x) == reference.n for x in (reference.composition, *reference.errors.values()))
    asked = ("--checkpoint", semantic_run.checkpoint, "--do=digit=3", "--out", tmp_path)
    succeed(call_script("counterfactual.py", digits, *asked, *FAST))
    rows = read_table(tmp_path / "trust.csv")
    answer = dscm.load(semantic_run.checkpoint, steps=3).counterfactual(digits, {"digit": 3})
    assert answer.trust and answer.trust.origin.noise is not None and answer.trust.identity_rank is not None
    for i, row in enumerate(rows):
        assert float(row["noise"]) == pytest.approx(answer.trust.origin.noise[i].item(), rel=1e-2)
        assert float(row["identity_rank"]) == pytest.approx(answer.trust.identity_rank[i].item(), rel=1e-2)
        assert float(row["error_slant"]) >= 0
        assert row["mark"] == "; ".join(answer.trust.marks[i])


def test_particles_spread(semantic_run: TrainingRun, digits: Path, tmp_path: Path) -> None:
    """Of each parent that is read; the noise is that of the mean code, so that it has a rank."""
    asked = ("--checkpoint", semantic_run.checkpoint, "--do=digit=3", "--particles", 2, "--out", tmp_path)
    succeed(call_script("counterfactual.py", digits, *asked, *FAST))
    for row in read_table(tmp_path / "trust.csv"):
        assert all(float(row[f"spread_{name}"]) >= 0 for name in ("thickness", "intensity", "digit", "slant"))
        assert row["noise"]
