"""Images as people have them, through the scripts: of any shape, linked, deep, transparent, broken."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dscm
from dscm import assets
from dscm.data.framing import Framing
from dscm.data.original import read_original
from dscm.data.png import encode_png
from tests.support.scripts import FAST, MACHINE, call_script, read_table, refuse, succeed

GRAPH = {
    "name": "discs",
    "variables": {
        "radius": {"type": "positive"},
        "image": {"type": "image", "size": 16, "channels": 1, "parents": ["radius"]},
    },
}
QUERY = ("--do", "thickness=6", *FAST)
PADDED = ("--set", "fit=pad")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Write two digits amid wider images: one grey, and one linked, of 16-bit colour and transparent in part."""
    folder = tmp_path / "wide"
    folder.mkdir()
    for i, place in enumerate((folder, tmp_path / "elsewhere")):
        place.mkdir(exist_ok=True)
        digit = np.asarray(Image.open(assets.DIGITS / f"0000{i}.png").convert("L"))
        pixels = np.pad(digit, ((0, 0), (14, 14)), constant_values=60)
        if i:
            layers = np.dstack([pixels.astype(np.uint16) * 257] * 3 + [np.full(pixels.shape, 65535, np.uint16)])
            layers[:, :5, 3] = 1000
            (place / "b.png").write_bytes(encode_png(layers))
        else:
            Image.fromarray(pixels).save(place / "a.png", dpi=(300, 300))
    (folder / "linked").symlink_to("../elsewhere")
    return folder


def discs(folder: Path, n: int = 40) -> Path:
    """Write images of discs, twice as wide as high, with their radius in attributes.csv; return the graph."""
    folder.mkdir()
    y, x = np.mgrid[:16, :32]
    rows = ["image,radius"]
    for i in range(n):
        radius = 2 + 5 * i / n
        disc = (y - 7.5) ** 2 + (x - 15.5) ** 2 < radius**2
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,{radius}")
    (folder / "attributes.csv").write_text("\n".join(rows) + "\n")
    graph = folder.with_suffix(".json")
    graph.write_text(json.dumps(GRAPH))
    return graph


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_fit_keeps_the_aspect_and_paste_finds_the_place(wide: Path, tmp_path: Path, fit: str) -> None:
    """Cropped, the digits are those of the bundle, and what was cut off stays to the bit, in depth and transparency."""
    out = tmp_path / "out"
    done = succeed(call_script("counterfactual.py", wide, "--set", f"fit={fit}", "--paste", *QUERY, "--out", out))
    assert "not square" not in done.stderr
    assert "note: 1 of 2 images: transparent in part, or may be; what shows through is black" in done.stderr
    rows = {row["image"]: row for row in read_table(out / "counterfactuals.csv")}
    assert [*rows] == ["a.png", "linked/b.png"]
    if fit == "crop":
        bundled = read_table(assets.DIGITS / "attributes.csv")
        assert float(rows["a.png"]["thickness"]) == pytest.approx(float(bundled[0]["thickness"]), rel=0.05)
    for name in rows:
        before = read_original(wide / name)
        after = read_original(out / "pasted" / "thickness=6" / name)
        assert after.pixels.dtype == before.pixels.dtype and after.pixels.shape == before.pixels.shape
        assert before.alpha is None or np.array_equal(after.alpha, before.alpha)
        changed = (np.atleast_3d(after.pixels) != np.atleast_3d(before.pixels)).any(axis=2)
        assert changed[:, 14:42].any()
        if fit == "crop":
            assert not changed[:, :14].any() and not changed[:, 42:].any()
    assert Image.open(out / "pasted" / "thickness=6" / "a.png").info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_what_happens_to_images_is_said_once(wide: Path) -> None:
    """Also the second time, when the answers of the first lie in the folder; there they are no images."""
    (wide / "c.heic").touch()
    for out in ("first", "second"):
        done = succeed(call_script("counterfactual.py", wide, *QUERY, "--out", wide / out))
        assert {row["image"] for row in read_table(wide / out / "counterfactuals.csv")} == {"a.png", "linked/b.png"}
        line = "images: not square and stretched to a square; --set fit=crop or --set fit=pad keeps the aspect"
        assert done.stderr.count(line) == 1 and "passed over: 1 .heic" in done.stderr
    assert f"1 folder with results of dscm ({wide / 'first'})" in done.stderr


def test_the_folder_of_the_images_takes_no_answers(wide: Path) -> None:
    before = sorted(wide.iterdir())
    line = refuse("counterfactual.py", wide, *QUERY, "--out", wide / "linked" / ".." / "wide", "--overwrite")
    assert line.endswith("is the folder of the images; name another") and sorted(wide.iterdir()) == before
    assert "no --set fit" in refuse("counterfactual.py", "--sample", 2, *PADDED, "--out", wide / "out", *MACHINE)


def test_a_training_keeps_its_fit(tmp_path: Path) -> None:
    """Stretching is said, a chosen fit is stored and must stay, and broken images may be left out."""
    graph, folder = discs(tmp_path / "discs"), tmp_path / "discs"
    place = ("--data", "folder", "--data-dir", folder, "--graph", graph, "--cache-dir", tmp_path / "cache", *MACHINE)
    steps = ("--out", tmp_path / "run", "--part", "oracle", "--steps", 1, "--batch", 4)
    checked = succeed(call_script("train.py", *place, *steps, "--check"))
    assert "note: 40 of 40 images: not square and stretched to a square" in checked.stderr
    (folder / "07.png").write_bytes(b"")
    line = call_script("train.py", *place, *steps, "--fit", "crop").stderr.splitlines()[-1]
    assert line.endswith("07.png (the file is empty (0 bytes)); leave them out with --set skip_missing")
    done = succeed(call_script("train.py", *place, *steps, "--fit", "crop", "--set", "skip_missing=on"))
    assert "1 of 3" in done.stderr and "; left out" in done.stderr and "not square" not in done.stderr
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    assert torch.load(checkpoint, weights_only=True)["settings"]["fit"] == "crop"
    skip = ("--set", "skip_missing=on", "--resume")
    assert "was made with --fit crop, not pad" in refuse("train.py", *place, *steps, "--fit", "pad", *skip)
    line = refuse("train.py", *place, "--out", folder, "--overwrite")
    assert line.endswith("is the folder of the images; name another")


def test_a_model_reads_images_as_it_was_trained() -> None:
    model = dscm.load("morphomnist")
    assert model.framing == Framing() and dscm.load("morphomnist", fit="pad").using(steps=2).framing == Framing("pad")
    model.checkpoint.settings["fit"] = "crop"  # type: ignore[index]
    assert model.framing == Framing("crop")
    with pytest.raises(dscm.InputError, match="fit squash: must be one of stretch, crop, pad"):
        dscm.load("morphomnist", fit="squash")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("--fit", "pad"),
            "--fit: has no effect on --data morphomnist; it is a setting of celeba, celebahq, embed, pendulum, folder",
        ),
        (("--csv", "absent.csv"), "--csv: has no effect on --data morphomnist; it is a setting of embed"),
        (("--set", "clean_background=on"), "clean_background: has no effect on --data morphomnist; it is a setting of"),
        (("--keep-aspect",), "--keep-aspect: no longer exists; type --fit pad"),
        (("--set", "keep_aspect=on"), "--set keep_aspect=on: no longer exists; type --fit pad"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path: Path, given: tuple[str, ...], message: str) -> None:
    line = refuse("train.py", "--data", "morphomnist", "--out", tmp_path / "run", "--steps", 1, *given, *MACHINE)
    assert message in line
