"""counterfactual.py as its user runs it, with the bundled weights, whose quality does not matter here."""

import csv
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, radians
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from dscm import assets, checkpoint
from dscm.data.images import read_image
from dscm.data.listing import find_images
from dscm.data.scaling import l1, to_signed
from dscm.diffusion.unet import UNet
from dscm.graphs import get_graph
from dscm.oracle import observe
from tests.support.scripts import (
    FAST,
    MACHINE,
    TrainingRun,
    call_script,
    copy_digits,
    read_table,
    refuse,
    run_script,
    succeed,
)

ATTRIBUTES = ["thickness", "intensity", "digit", "slant"]
FILES = {"counterfactuals.csv", "trust.csv", "grid.png", "command.json", ".finished"}
QUERIES = ["thickness=5", "digit=3", "digit=3,slant=0.2"]
RunScript = Callable[..., subprocess.CompletedProcess]


@dataclass(frozen=True)
class Answers:
    """A finished run: what was asked about, what was written, and what was said."""

    images: Path
    out: Path
    done: subprocess.CompletedProcess

    @property
    def rows(self) -> list[dict[str, str]]:
        with open(self.out / "counterfactuals.csv", newline="") as file:
            return list(csv.DictReader(file))

    def rows_of(self, query: str) -> list[dict[str, str]]:
        return [row for row in self.rows if row["query"] == query]


def picture(answers: Answers, name: str, query: str) -> torch.Tensor:
    """Read the answer about an image, in [-1, 1], shape (1, 1, 28, 28)."""
    return to_signed(read_image(answers.out / f"{name}__{query}.png", 28, 1))[None]


@pytest.fixture(scope="module")
def answers(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Three queries about the six digits, in a process of their own."""
    out = tmp_path_factory.mktemp("answers") / "new" / "out"
    queries = [f"--do={query}" for query in QUERIES]
    return Answers(digits, out, succeed(run_script("counterfactual.py", digits, *queries, "--out", out, *FAST)))


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """One query about a folder without attributes, with sub-folders, like names and unreadable images."""
    folder, out = tmp_path_factory.mktemp("messy"), tmp_path_factory.mktemp("empty")
    copy_digits(folder, ["a.png", "a.jpg", "sub/a.png", "sub/deep er/é.bmp"], attributes=False)
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:150])
    (folder / "text.png").write_text("hello")
    (folder / "sub" / "noise.jpg").write_bytes(b"\xff\xd8 no picture")
    return Answers(folder, out, call_script("counterfactual.py", folder, "--do", "thickness=5", "--out", out, *FAST))


def test_writes_a_picture_for_each_image_and_query(answers: Answers) -> None:
    pictures = {f"{i}__{query}.png" for i in range(6) for query in QUERIES}
    assert {path.name for path in answers.out.iterdir()} == pictures | FILES
    for name in pictures:
        with Image.open(answers.out / name) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))
    with Image.open(answers.out / "grid.png") as image:
        assert image.width > 6 * 56 and image.height > 8 * 56  # observation, composition; answer and effect of three


def test_table_has_a_row_for_each_image_and_query(answers: Answers) -> None:
    kinds = [f"{kind}{name}" for kind in ("", "counterfactual_", "measured_") for name in ATTRIBUTES]
    assert list(answers.rows[0]) == ["image", "query", *kinds, "l1"]
    expected = [(f"{i}.png", query) for query in QUERIES for i in range(6)]
    assert sorted((row["image"], row["query"]) for row in answers.rows) == sorted(expected)


def test_table_repeats_the_given_attributes(answers: Answers) -> None:
    with open(answers.images / "attributes.csv", newline="") as file:
        given = {row["image"]: row for row in csv.DictReader(file)}
    for row in answers.rows:
        for name in ATTRIBUTES:
            assert float(row[name]) == pytest.approx(float(given[row["image"]][name]), rel=1e-4)
    assert "factual attributes: from attributes.csv" in answers.done.stdout


def test_thickness_moves_intensity(answers: Answers) -> None:
    """The abducted noise is kept: logit(i) - 2 t is the same before and after; digit and slant stay."""
    inside = 0
    for row in answers.rows_of("thickness=5"):
        assert row["counterfactual_thickness"] == "5"
        assert row["counterfactual_digit"] == row["digit"]
        assert float(row["counterfactual_slant"]) == pytest.approx(float(row["slant"]), abs=1e-6)
        intensity = float(row["intensity"])
        if not 64 < intensity < 254:
            continue
        inside += 1
        share = (intensity - 64) / 191
        logit = log(share / (1 - share)) + 2 * (5 - float(row["thickness"]))
        assert float(row["counterfactual_intensity"]) == pytest.approx(64 + 191 / (1 + exp(-logit)), abs=0.02)
    assert inside >= 3


def test_digit_moves_slant(answers: Answers) -> None:
    """By six degrees a digit; thickness and intensity stay."""
    for row in answers.rows_of("digit=3"):
        assert row["counterfactual_digit"] == "3"
        moved = float(row["slant"]) + radians(6) * (3 - float(row["digit"]))
        assert float(row["counterfactual_slant"]) == pytest.approx(moved, abs=1e-4)
        for name in ("thickness", "intensity"):
            assert float(row[f"counterfactual_{name}"]) == pytest.approx(float(row[name]), rel=1e-4)


def test_joint_query_sets_both(answers: Answers) -> None:
    for row in answers.rows_of("digit=3,slant=0.2"):
        assert (row["counterfactual_digit"], row["counterfactual_slant"]) == ("3", "0.2")


def test_table_describes_the_pictures(answers: Answers) -> None:
    """Measuring the written file gives the row's measured attributes, and comparing it the row's L1."""
    oracle = checkpoint.restore_oracle(assets.find("oracle"), torch.device("cpu")).model
    for row in answers.rows[::4]:
        image = picture(answers, Path(row["image"]).stem, row["query"])
        measured = observe(image, get_graph("morphomnist"), oracle)
        assert int(row["measured_digit"]) == measured["digit"].item()
        for name in ("thickness", "intensity", "slant"):
            assert float(row[f"measured_{name}"]) == pytest.approx(measured[name].item(), rel=1e-3, abs=1e-4)
        observation = to_signed(read_image(answers.images / row["image"], 28, 1))[None]
        assert float(row["l1"]) == pytest.approx(l1(image, observation).item(), abs=1 / 255)


def test_queries_get_different_pictures(answers: Answers) -> None:
    assert len({picture(answers, "0", query).numpy().tobytes() for query in QUERIES}) == len(QUERIES)


def test_second_run_is_the_same_byte_for_byte(answers: Answers, tmp_path: Path) -> None:
    """In a folder with content, which --overwrite allows and leaves alone."""
    (tmp_path / "notes.txt").write_text("mine")
    queries = [f"--do={query}" for query in QUERIES]
    succeed(call_script("counterfactual.py", answers.images, *queries, "--out", tmp_path, "--overwrite", *FAST))
    first = {path.name: path.read_bytes() for path in answers.out.iterdir()}
    second = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert second.pop("notes.txt") == b"mine"
    assert first == second


def test_default_images_are_the_bundled_digits(tmp_path: Path) -> None:
    succeed(call_script("counterfactual.py", "--do", "thickness=5", "--out", tmp_path / "out", "--steps", 1, *MACHINE))
    names = {f"{path.stem}__thickness=5.png" for path in find_images(assets.DIGITS)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | FILES


def test_batch_size_does_not_matter(answers: Answers, tmp_path: Path) -> None:
    """Up to a grey level, whose rounding may tip over."""
    options = ("--do", QUERIES[0], "--out", tmp_path, "--batch", 4, *FAST)
    done = succeed(call_script("counterfactual.py", answers.images, *options))
    for i in range(6):
        one, other = picture(answers, str(i), QUERIES[0]), picture(Answers(Path(), tmp_path, done), str(i), QUERIES[0])
        assert (one - other).abs().max() < 1.01 / 127.5


def test_without_table_attributes_are_measured(messy: Answers) -> None:
    assert "factual attributes: measured" in messy.done.stdout and "oracle" in messy.done.stdout
    with open(assets.DIGITS / "attributes.csv", newline="") as file:
        recorded = next(csv.DictReader(file))
    (row,) = (row for row in messy.rows if row["image"] == "a.png")
    for name in ("thickness", "intensity", "slant"):
        assert float(row[name]) == pytest.approx(float(recorded[name]), rel=1e-3)


def test_a_table_may_hold_some_attributes_of_some_images(tmp_path: Path) -> None:
    """The rest is measured or predicted, and told; rows and images without each other are left out on request."""
    folder = copy_digits(tmp_path / "in", ["0.png", "1.png", "2.png"])
    rows = read_table(folder / "attributes.csv")
    slants = [f"{float(row['slant']) / 2:.3f}".replace(".", ",") for row in rows[:2]]
    table = [f"{row['image']};{slant};{row['digit']},0" for row, slant in zip(rows, slants)]
    lines = ["image;slant;digit", *table, "absent.png;0;1"]
    (folder / "attributes.csv").write_text("\n".join(lines), encoding="utf-16")
    asked = (folder, "--do", "thickness=5", "--out", tmp_path / "out", *FAST)
    assert "attributes.csv, line 4: 'absent.png' is not an image" in refuse("counterfactual.py", *asked)
    done = succeed(call_script("counterfactual.py", *asked, "--set", "skip_missing=on"))
    assert "factual attributes: from attributes.csv: digit, slant; measured on the images: " in done.stdout
    assert "1 rows name no image of the folder: 'absent.png'; left out\n" in done.stderr
    assert "1 images of the folder have no row: '2.png'; left out\n" in done.stderr
    answered = read_table(tmp_path / "out" / "counterfactuals.csv")
    assert [row["image"] for row in answered] == ["0.png", "1.png"]
    for row, given in zip(answered, rows):
        assert float(row["slant"]) == pytest.approx(float(given["slant"]) / 2, abs=1e-3)
        assert float(row["thickness"]) == pytest.approx(float(given["thickness"]), rel=1e-3)
        assert row["digit"] == given["digit"]
    sampled = ("--sample", 1, "--set", "skip_missing=on", "--out", tmp_path / "none")
    assert "--set skip_missing: has no effect with --sample" in refuse("counterfactual.py", *sampled)


def test_sub_folders_are_kept_and_like_names_told_apart(messy: Answers) -> None:
    written = {path.relative_to(messy.out).as_posix() for path in messy.out.rglob("*") if path.is_file()}
    answers = ["a.png", "a.jpg", "sub/a", "sub/deep er/é"]
    assert written == {f"{name}__thickness=5.png" for name in answers} | FILES
    assert [row["image"] for row in messy.rows] == ["a.jpg", "a.png", "sub/a.png", "sub/deep er/é.bmp"]


def test_unreadable_images_are_skipped_and_listed(messy: Answers) -> None:
    assert messy.done.returncode == 1
    assert "Traceback" not in messy.done.stderr
    skipped = [line for line in messy.done.stderr.splitlines() if line.startswith("skipped ")]
    assert [line.split(":")[0] for line in skipped] == [
        "skipped cut.png",
        "skipped empty.png",
        "skipped sub/noise.jpg",
        "skipped text.png",
    ]
    assert "0 bytes" in skipped[1] and all("not a PNG, JPEG or other image" in line for line in skipped[2:])
    assert "4 images, 1 queries" in messy.done.stdout


def test_nothing_readable(tmp_path: Path) -> None:
    """The exit code is 1, and no sheet is announced that was not drawn."""
    (tmp_path / "empty.png").touch()
    done = call_script("counterfactual.py", tmp_path, "--do", "thickness=5", "--out", tmp_path / "out", *FAST)
    assert done.returncode == 1 and "skipped empty.png" in done.stderr
    assert ("grid.png" in done.stdout) == (tmp_path / "out" / "grid.png").exists()


def test_names_never_collide(tmp_path: Path) -> None:
    """Neither images whose names differ in their endings alone, nor queries that differ in a far decimal."""
    folder = copy_digits(tmp_path / "images", ["a.png", "a.jpg", "a.png.png"])
    queries = ("--do", "slant=0.1234567", "--do", "slant=0.1234568")
    done = succeed(call_script("counterfactual.py", folder, *queries, "--out", tmp_path / "out", *FAST))
    rows = Answers(folder, tmp_path / "out", done).rows
    assert len({(row["image"], row["query"]) for row in rows}) == 6
    assert len(list((tmp_path / "out").glob("*__*.png"))) == 6


def test_compiled_and_in_bfloat16(
    semantic_run: TrainingRun, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is compiled, here without reordering, answers the same; one in bfloat16 nearly so."""
    compiled = []

    def trace(network: UNet, dynamic: bool) -> None:
        compiled.append(network)
        nn.Module.compile(network, backend="eager", dynamic=dynamic)

    monkeypatch.setattr(UNet, "compile", trace)
    asked = ("--checkpoint", semantic_run.checkpoint, "--do=digit=3", "--steps", 2, "--guidance", 1, *MACHINE)
    runs = {}
    for flag in ((), ("--set", "compile=on"), ("--set", "precision=bfloat16")):
        out = tmp_path / "-".join(("out", *flag))
        runs[flag] = Answers(
            digits, out, succeed(call_script("counterfactual.py", digits, *asked, *flag, "--out", out))
        )
    plain, *others = runs
    for flag in others:
        assert [row["image"] for row in runs[flag].rows] == [row["image"] for row in runs[plain].rows]
        for i in range(6):
            error = l1(picture(runs[flag], str(i), "digit=3"), picture(runs[plain], str(i), "digit=3")).item()
            assert error < (1e-2 if "precision=bfloat16" in flag else 1e-3)
    assert len(compiled) == 1


def test_values_off_the_support_are_told_in_a_line(digits: Path, tmp_path: Path) -> None:
    """The last line; usual ones say nothing, and all answers are written. Guidance by groups is told, too."""
    queries = ("--do", "thickness=9.5,slant=1.2", "--do", "thickness=2.5", "--guidance", "do=2.5")
    done = succeed(call_script("counterfactual.py", digits, *queries, "--out", tmp_path / "out", *FAST))
    line = done.stdout.splitlines()[-1]
    assert " of 12 answers met their target; 6 lie off the support (thickness above 6" in line
    assert line.endswith(": see trust.csv")
    assert "note: --guidance do=2.5,others=1: morphomnist-semantic.pt was trained without null_apart" in done.stderr
    assert len(read_table(tmp_path / "out" / "counterfactuals.csv")) == 12
