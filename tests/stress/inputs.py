"""Cases of images, tables and graphs."""

import copy
import json
import os
import random
import struct
import unicodedata
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from damage import NUMBERS, TEXTS, odd_value, spoil_bytes, spoil_file, spoil_value
from PIL import Image
from stage import COLUMNS, GRAPH, KIND, MACHINE, Case, Stage, rows, write_images

MODES = {"1": "png", "L": "webp", "P": "gif", "PA": "tiff", "LA": "png", "RGBA": "png", "CMYK": "jpg", "YCbCr": "tiff",
         "LAB": "tiff", "F": "tiff", "I": "tiff", "I;16": "png", "RGB": "bmp", "HSV": "tiff"}  # fmt: skip
SIZES = ((1, 1), (1, 4000), (3000, 1), (17, 16), (200, 150))
NAMES = ("ü.png", "ü.PNG", "a b.png", "-x.png", "@x.png", "=1+1.png", 'q"u,o.png', "n\nl.png", "con.png",
         "x" * 250 + ".png", "\udcff\udc80.png", "*?:.png", "\u202egnp.png", "attributes.csv.png", "grid.png", ".h.png",
         "a__b.png", "00.PNG", "00.jpg", "sub/00.png", "sub /x.png", "\U0001f600.png")  # fmt: skip


def make_image(rng: random.Random, folder: Path) -> None:
    """Write an image in an odd mode, size or format."""
    mode = rng.choice([*MODES])
    size = rng.choice(SIZES)
    levels = np.random.default_rng(rng.randrange(1000)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    if mode in ("LAB", "HSV"):
        image = Image.frombytes(mode, size, levels.tobytes())
    elif mode == "I;16":
        image = Image.fromarray(levels[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.float32(levels[..., 0]) * rng.choice([1, np.nan, 1e30]))
    else:
        image = Image.fromarray(levels).convert("L" if mode == "PA" else mode).convert(mode)
    frames = [image.copy() for _ in range(rng.choice([0, 0, 3]))]
    path = folder / f"odd.{MODES[mode] if not frames else rng.choice(['gif', 'tiff', 'webp', 'png'])}"
    try:
        image.save(path, **({"save_all": True, "append_images": frames} if frames else {}))
    except (OSError, ValueError, KeyError, SystemError):  # Pillow does not write every mode in every format
        Image.fromarray(levels).save(folder / "odd.png")


def make_huge(rng: random.Random, folder: Path) -> None:
    """Write a PNG that says it is huge, or has a broken part."""
    side = rng.choice([0, 20000, 70000, 2**31 - 1, 2**32 - 1])
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, rng.choice([1, side]), 8, rng.choice([0, 2, 3, 5]), 0, 0, 0))]
    parts.append((rng.choice([b"iCCP", b"tEXt", b"eXIf", b"acTL", b"tRNS", b"PLTE", b"pHYs"]), rng.randbytes(40)))
    parts += [(b"IDAT", zlib.compress(bytes(200))), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(x)) + t + x + struct.pack(">I", zlib.crc32(t + x)) for t, x in parts)
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def make_exif(rng: random.Random, folder: Path) -> None:
    """Write a JPEG with wild EXIF data and colour profile."""
    file = BytesIO()
    exif = rng.choice(
        [b"Exif\0\0" + rng.randbytes(60), b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"]
    )
    Image.new("RGB", (20, 30), (9, 99, 200)).save(file, "JPEG", exif=exif, icc_profile=rng.randbytes(50))
    (folder / "exif.jpg").write_bytes(file.getvalue())


def make_link(rng: random.Random, folder: Path) -> None:
    """Make a link, a pipe or a folder where an image is expected."""
    name = folder / "z.png"
    ways: list[Callable[[], object]] = [
        lambda: name.symlink_to("nothing.png"),
        lambda: name.symlink_to("z.png"),
        lambda: name.symlink_to("/dev/zero"),
        lambda: (folder / "more").symlink_to("."),
        lambda: (folder / "more").symlink_to(folder.parent),
        name.mkdir,
        lambda: os.mkfifo(name),
        lambda: os.mkfifo(folder / "z.txt"),
        lambda: name.symlink_to("00.png"),
        lambda: os.link(folder / "00.png", name),
        lambda: [(folder / "00.png").unlink(), os.mkfifo(folder / "00.png")],
    ]
    rng.choice(ways)()


def rename(rng: random.Random, folder: Path) -> None:
    """Copy an image to an odd name."""
    name = rng.choice(NAMES)
    path = folder / (unicodedata.normalize("NFD", name) if rng.random() < 0.3 else name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((folder / "01.png").read_bytes())


def spoil_image(rng: random.Random, folder: Path) -> None:
    """Spoil the bytes of an image."""
    spoil_file(rng, folder / rng.choice(["02.png", "03.png"]))


def images(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Ask about, train on or evaluate on a folder of odd images."""
    folder = home / "in"
    names = write_images(folder, 6)
    for _ in range(rng.choice([1, 1, 2])):
        rng.choice([make_image, make_huge, make_exif, make_link, rename, spoil_image, spoil_image])(rng, folder)
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "attributes.csv")
    if rng.random() < 0.5:
        (folder / "attributes.csv").unlink()
    elif rng.random() < 0.6:
        (folder / "attributes.csv").write_text(to_text([COLUMNS, *rows(found)], ","), errors="surrogateescape")
    more = rng.choice([[], ["--paste"], ["--fit", "pad"], ["--fit", "crop", "--paste"]])
    more += rng.choice([[], ["--set", "skip_missing=on"]])
    if rng.random() < 0.2:
        whole = ["--set", "skip_missing=on"] if rng.random() < 0.5 else []
        return Case("train", [*stage.train(home / "out", folder), *whole, *rng.choice([[], ["--check"]])])
    if rng.random() < 0.15:
        return Case("evaluate", [*stage.measure(home / "out"), "--data-dir", str(folder)])
    if rng.random() < 0.3:  # a model whose attributes are measured
        (folder / "attributes.csv").unlink(missing_ok=True)
        words = ["--do", "thickness=+1", "--out", str(home / "out"), "--steps", "1", *MACHINE]
        return Case("counterfactual", [str(folder), *words, *more])
    asked = rng.choice([[], ["--do", f"volume=@{rng.choice(names + found)}"], ["--do", "volume=*1.1"]])
    return Case("counterfactual", [*stage.query(home / "out", folder), *asked, *more])


def to_text(lines: list[list[str]], separator: str) -> str:
    """Write a table, each cell that needs it in quotes."""
    quoted = [[f'"{cell}"' if separator in cell or "\n" in cell else cell for cell in line] for line in lines]
    return "".join(separator.join(line) + "\n" for line in quoted)


def spoil_cells(rng: random.Random, lines: list[list[str]]) -> None:
    """Change cells, rows or columns of a table."""
    i, j = rng.randrange(len(lines)), rng.randrange(len(COLUMNS))
    values = [
        *map(str, NUMBERS[:-3]),
        *TEXTS,
        "1,5",
        "1.5",
        "0x10",
        "1_000",
        "１２",
        "TRUE",
        "yes",
        "NA",
        "-",
        " 1 ",
        "1e400",
    ]
    values += ["5" * 5000, "y" * 200_000, "\u2212 1", *KIND, "./00.png", "..\\01.png", "/00.png", "image"]
    ways: list[Callable[[], object]] = [
        lambda: lines[i].__setitem__(j, rng.choice(values)),
        lambda: lines[i].__setitem__(j, rng.choice(values)),
        lambda: lines[i].append(rng.choice(values)),
        lambda: lines[i].pop(),
        lambda: lines.insert(i, list(lines[-1])),
        lambda: lines.pop(i),
        lambda: lines.insert(i, []),
        lambda: [line.pop(j) for line in lines if len(line) > j],
        lambda: [line.insert(j, line[j]) for line in lines if len(line) > j],
        lambda: [line.insert(j, rng.choice(values)) for line in lines],
        lambda: lines.__delitem__(slice(1, None)),
        lambda: [line.reverse() for line in lines],
        lambda: [line.append(rng.choice(["train", "test", "", "x"])) for line in lines],
    ]
    rng.choice(ways)()


def spoil_table(rng: random.Random, path: Path, lines: list[list[str]]) -> None:
    """Write a table in an odd encoding, with an odd separator, and spoilt."""
    lines = copy.deepcopy(lines)
    if rng.random() < 0.5:
        for _ in range(rng.choice([1, 3])):
            i, j = rng.randrange(1, len(lines)), rng.randrange(1, len(COLUMNS))
            lines[i][j] = rng.choice(["1", "0", "1.5", "1e-9", " 2 ", "", "NA", "1e38", "0.0", "-0", "True", *KIND])
        path.write_text(
            to_text(lines, rng.choice([",", ";", "\t"])), encoding=rng.choice(["utf-8", "utf-8-sig", "utf-16"])
        )
        return
    for _ in range(rng.choice([0, 1, 1, 2])):
        if lines and all(len(line) >= len(COLUMNS) for line in lines):
            spoil_cells(rng, lines)
    text = to_text(lines, rng.choice([",", ",", ",", ";", "\t", "|", " "]))
    if rng.random() < 0.2:
        text = text.replace("\n", rng.choice(["\r\n", "\r", "\n\n", '"\n', "\0\n", "\x85", "\u2028"]))
    encoding = rng.choice(["utf-8"] * 4 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp037", "utf-7"])
    content = text.encode(encoding, "replace" if encoding != "utf-8" else "surrogatepass")
    path.write_bytes(content if rng.random() < 0.7 else spoil_bytes(rng, content))
    if rng.random() < 0.05:
        spoil_file(rng, path)


def tables(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Ask about, train on or evaluate on a folder with an odd table, or give values by one."""
    folder = home / "in"
    names = write_images(folder, 30)
    lines = [COLUMNS, *rows(names)]
    spoil_table(rng, folder / "attributes.csv", lines)
    skip = rng.choice([[], ["--set", "skip_missing=on"]])
    way = rng.randrange(4)
    if way == 0:
        part = rng.choice(["attributes", "oracle", "image"])
        return Case(
            "train", [*stage.train(home / "out", folder), "--part", part, *rng.choice([[], ["--check"]]), *skip]
        )
    if way == 1:
        return Case("evaluate", [*stage.measure(home / "out"), "--data-dir", str(folder), *skip])
    if way == 2:
        spoil_table(rng, home / "values.csv", [COLUMNS, *rows(["00.png", "01.png", "02.png", "03.png"])])
        column = rng.choice([*COLUMNS, "", "x", ":"])
        asked = ["--do", f"{rng.choice(COLUMNS[1:])}=@{home / 'values.csv'}:{column}"]
        return Case("counterfactual", [*stage.query(home / "out"), *asked, *skip])
    return Case("counterfactual", [*stage.query(home / "out", folder), *skip])


def spoil_json(rng: random.Random, text: str) -> bytes:
    """Spoil the text of a JSON file."""
    deep = rng.choice(["[", '{"a":'])
    ways: list[Callable[[], bytes]] = [
        lambda: spoil_bytes(rng, text.encode()),
        lambda: spoil_bytes(rng, text.encode()),
        lambda: text.encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"])),
        lambda: (deep * rng.choice([500, 100_000])).encode(),
        lambda: text.replace(
            "10", rng.choice(["9" * 5000, "1e999", "NaN", "-Infinity", "0x1", "1_0", "01"]), 1
        ).encode(),
        lambda: text.replace("]", rng.choice([",]", "}", "]]", "] // x"]), 1).encode(),
        lambda: text.replace('"parents"', '"type"', 1).encode(),
        lambda: text.replace('["size"]', "[" * 3000 + '"size"' + "]" * 3000, 1).encode(),
        lambda: text.replace("size", rng.choice(["\\ud800", "\\u0000", "a.b", "image", "forward", "  ", "é"])).encode(),
    ]
    return rng.choice(ways)()


def graphs(stage: Stage, rng: random.Random, home: Path) -> Case:
    """Check, or train on, an odd graph."""
    path, spec = home / "graph.json", copy.deepcopy(GRAPH)
    if rng.random() < 0.7:
        for _ in range(rng.choice([1, 1, 2])):
            spec = spoil_value(rng, spec) if rng.random() < 0.95 else odd_value(rng)
        path.write_text(json.dumps(spec))
    else:
        path.write_bytes(spoil_json(rng, json.dumps(spec)))
    if rng.random() < 0.03:
        spoil_file(rng, path)
    more = rng.choice([["--check"], ["--check"], ["--part", "attributes"], ["--part", "oracle"], []])
    return Case("train", [*stage.train(home / "out", graph=path), *more])


KINDS: Mapping[str, Callable[[Stage, random.Random, Path], Case]] = {
    "images": images,
    "tables": tables,
    "graphs": graphs,
}
