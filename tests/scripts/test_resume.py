"""A query that was stopped goes on where it was, and ends with the bytes of one that was not."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dscm import assets
from dscm.data.original import Original, read_original
from dscm.errors import UnreadableImage
from dscm.folder.ledger import Ledger
from tests.support.scripts import MACHINE, Done, call_script, copy_digits, read_table, succeed, the_error

BRIEF = ("--steps", 1, "--guidance", 1, *MACHINE)
QUERIES = ("--do", "digit=3", "--do", "thickness=*2.5")  # the second leaves the domain of one digit


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Seven digits, one of them broken, in a folder."""
    folder = copy_digits(tmp_path / "in", [f"{i}.png" for i in range(7)], attributes=False)
    (folder / "5.png").write_bytes(b"broken")
    return folder


def ask(images: Path, out: Path, *more: object) -> Done:
    """Ask the queries in batches of two."""
    return call_script("counterfactual.py", images, *QUERIES, "--batch", 2, "--paste", "--out", out, *BRIEF, *more)


def files(folder: Path) -> dict[str, bytes]:
    """Read every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stop_after(monkeypatch: pytest.MonkeyPatch, batches: int, error: BaseException) -> Iterator[None]:
    """Let the pictures of so many batches be written, and stop before the rows of the next."""
    add, count = Ledger.add, [0]

    def fail(self: Ledger, refused: Mapping[str, Mapping[str, str]], rows: list[list[str]], *beside: object) -> None:
        count[0] += 1
        if count[0] > batches:
            raise error
        add(self, refused, rows, *beside)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", fail)
        yield


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_stopped_query_goes_on(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """After Ctrl-C and a full disk, in every batch: what was there is not made again, and all bytes are the same."""
    noise = ("--save-noise", tmp_path / "noise.zip")
    done = ask(images, tmp_path / "whole", *noise)
    assert done.returncode == 1 and "skipped 5.png" in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("not answered")] == [
        "not answered: 2.png under thickness=*2.5: thickness would be 13.0313; allowed: 0.5 to 10 px"
    ]
    whole, saved = files(tmp_path / "whole"), (tmp_path / "noise.zip").read_bytes()
    (tmp_path / "noise.zip").unlink()
    for batches in range(3):
        out = tmp_path / str(batches)
        for _ in stop_after(monkeypatch, batches, error):
            stopped = ask(images, out, *noise)
        assert stopped.returncode == (130 if isinstance(error, KeyboardInterrupt) else 1)
        assert ("No space" if isinstance(error, OSError) else "the same command goes on") in stopped.stderr
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
        assert len(read_table(out / "counterfactuals.csv")) == [0, 4, 7][batches]
        again = ask(images, out, *noise)
        assert (again.returncode, again.stdout) == (1, again.stdout) and "skipped 5.png" in again.stderr
        assert files(out) == whole and (tmp_path / "noise.zip").read_bytes() == saved
        kept = [path for path, time in before.items() if path.stat().st_mtime_ns == time]
        assert len(kept) == [0, 9, 15][batches]
        (tmp_path / "noise.zip").unlink()


def test_only_what_is_missing_is_answered(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it is done: a deleted picture, an image that was mended, a new one, and one whose values changed."""
    out = tmp_path / "out"
    ask(images, out)
    first = files(out)
    with monkeypatch.context() as patch:
        patch.setattr("dscm.causal.scm.SCM.abduct", None)
        assert ask(images, out).returncode == 1
        assert files(out) == first
    (out / "3__digit=3.png").unlink()
    shutil.copy(images / "0.png", images / "5.png")
    shutil.copy(images / "0.png", images / "7.png")
    before = {path: path.stat().st_mtime_ns for path in out.glob("*__*.png")}
    ask(images, out)
    changed = {path.name[0] for path in out.glob("*__*.png") if before.get(path) != path.stat().st_mtime_ns}
    assert changed == {"3", "5", "7"}
    assert {row["image"] for row in read_table(out / "counterfactuals.csv")} == {f"{i}.png" for i in range(8)}
    assert files(out)["3__digit=3.png"] == first["3__digit=3.png"]


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (("--guidance", 3), "guidance 1, not 3"),
        (("--seed", 1), "seed 0, not 1"),
        (("--do", "slant=0"), "do digit=3, thickness=*2.5, not digit=3, thickness=*2.5, slant=0"),
        (("--steps", 4), "steps 1, not 4"),
    ],
)
def test_another_query_is_refused(images: Path, tmp_path: Path, more: tuple, difference: str) -> None:
    """With what differs, and the folder stays as it is."""
    out = tmp_path / "out"
    ask(images, out)
    before = files(out)
    done = ask(images, out, *more)
    assert done.returncode == 2 and difference in the_error(done.stderr)
    assert files(out) == before


def test_an_original_that_has_gone_costs_no_other(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed, and has no row."""

    def lose(path: Path) -> Original:
        if path.name == "1.png":
            raise UnreadableImage("gone")
        return read_original(path)

    with monkeypatch.context() as patch:
        patch.setattr("dscm.folder.writer.read_original", lose)
        done = ask(images, tmp_path / "out")
    assert done.returncode == 1 and "not answered: 1.png under digit=3: gone" in done.stderr
    rows = read_table(tmp_path / "out" / "counterfactuals.csv")
    assert {row["image"] for row in rows} == {f"{i}.png" for i in (0, 2, 3, 4, 6)}


def test_samples_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same bytes, whatever the batch."""

    def draw(out: str, batch: int) -> Done:
        return call_script("counterfactual.py", "--sample", 5, "--batch", batch, "--out", tmp_path / out, *BRIEF)

    succeed(draw("whole", 2))
    for _ in stop_after(monkeypatch, 1, KeyboardInterrupt()):
        assert draw("out", 2).returncode == 130
    succeed(draw("out", 2))
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_noise_belongs_to_the_image(tmp_path: Path) -> None:
    """Another batch, or one image fewer in the folder, changes no counterfactual attribute of a face."""
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(assets.SAMPLES["celebahq"].glob("*.jpg"))[:6]:
        shutil.copy(path, few / path.name)
    ask_faces = ("counterfactual.py", few, "--data", "celebahq", "--do", "Smiling=flip", *BRIEF)
    succeed(call_script(*ask_faces, "--out", tmp_path / "a", "--batch", 4))
    next(iter(sorted(few.glob("*.jpg")))).unlink()
    succeed(call_script(*ask_faces, "--out", tmp_path / "b", "--batch", 3))
    one, other = ({row["image"]: row for row in read_table(tmp_path / name / "counterfactuals.csv")} for name in "ab")
    column = "counterfactual_Mouth_Slightly_Open"
    assert len(other) == 5 and all(one[name][column] == row[column] for name, row in other.items())
