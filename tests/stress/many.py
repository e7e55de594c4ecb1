"""Ask about a folder of many files, some of them broken: all others are answered, and memory stays flat.

    python tests/stress/many.py --n 20000

Of every hundred files one is broken, in one of four ways. It prints the time, the memory of the process after each
tenth of the images and at the end, and what was listed. The exit code is 1 if an image is missing or too many.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BROKEN = (b"", b"no image", b"\x89PNG\r\n\x1a\n", None)  # None: half of an image


def fill(folder: Path, n: int) -> set[str]:
    """Write n files, links to the bundled digits but for the broken ones; returns the names of those."""
    digits = sorted((ROOT / "dscm" / "assets" / "digits").glob("*.png"))
    broken = set()
    folder.mkdir()
    for i in range(n):
        path = folder / f"{i:06}.png"
        if i % 100 == 99:
            content = BROKEN[i // 100 % len(BROKEN)]
            half = digits[0].read_bytes()
            path.write_bytes(half[: len(half) // 2] if content is None else content)
            broken.add(path.name)
        else:
            os.link(digits[i % len(digits)], path)
    return broken


def read_memory(process: int) -> float:
    """Return the memory of a process in MiB, as Linux tells it."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS")), 0.0)


def watch(process: subprocess.Popen[bytes], table: Path, n: int) -> list[float]:
    """Return the memory when the table has rows for each further tenth of the images, and the last that was seen."""
    memory: list[float] = []
    last = 0.0
    while process.poll() is None:
        time.sleep(0.2)
        rows = sum(1 for _ in table.open("rb")) if table.exists() else 0
        now = read_memory(process.pid) if process.poll() is None else 0.0
        if now and rows >= (len(memory) + 1) * n / 10:
            memory.append(now)
        last = now or last
    return [*memory, last]


def main() -> int:
    """Run the script, print what it took, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory(dir=ROOT / "dscm" / "assets") as folder:  # the same disk, for hard links
        images, out, log = (Path(folder) / name for name in ("images", "out", "log"))
        broken = fill(images, n)
        words = [
            images,
            "--do",
            "digit=3",
            "--steps",
            1,
            "--guidance",
            1,
            "--threads",
            1,
            "--device",
            "cpu",
            "--out",
            out,
        ]
        command = [sys.executable, str(ROOT / "counterfactual.py"), *map(str, words)]
        began = time.monotonic()
        with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file) as process:
            memory = watch(process, out / "counterfactuals.csv", n)
        with (out / "counterfactuals.csv").open(newline="") as file:
            rows = {row["image"] for row in csv.DictReader(file)}
        text = log.read_text(errors="replace")
        listed = {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("skipped ")}
    expected = {f"{i:06}.png" for i in range(n)} - broken
    right = rows == expected and listed == broken and process.returncode == 1
    print(f"{n} files in {time.monotonic() - began:.0f} s, exit code {process.returncode}: {len(rows)} answered, "
          f"{len(listed)} listed; memory {' → '.join(f'{m:.0f}' for m in memory)} MiB")  # fmt: skip
    print("all others are answered, the broken ones are listed" if right else text[-1000:])
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
