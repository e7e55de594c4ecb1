"""Time the morphometry: images per second of measuring, and of drawing twice and measuring.

    python tests/benchmarks/morphometry.py --n 64 --data-dir MNIST

Where scikit-image can be imported, the same work is timed one image at a time, from the definitions of Castro et
al. 2019: upscale four times, dilate or erode with a disk, downscale, twice over, then measure.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dscm.assets import DIGITS
from dscm.data.images import read_image
from dscm.data.listing import find_images
from dscm.data.morphomnist.idx import find_idx, read_idx
from dscm.data.morphomnist.measure import SCALE, measure
from dscm.data.morphomnist.render import render
from dscm.graphs import get_graph

try:
    from skimage import morphology, transform
except ImportError:
    morphology = transform = None


def main() -> None:
    """Read the digits, time each pipeline and print its rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="digits (default: 64); the bundled ones are repeated")
    parser.add_argument("--data-dir", type=Path, help="a folder of raw MNIST; default: the bundled digits")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1; scikit-image uses one)")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many runs counts (default: 3)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    digits = read_digits(args.n, args.data_dir)
    generator = torch.Generator().manual_seed(0)
    graph = get_graph("morphomnist").scm()
    draws = [graph.sample(len(digits), generator) for _ in range(2)]
    targets = [{name: draw[name] for name in ("thickness", "slant", "intensity")} for draw in draws]

    print(f"{len(digits)} digits, {args.threads} thread(s), best of {args.repeats}; images per second:")
    ours = report("measure", lambda: measure(digits), len(digits), args.repeats)
    whole = "draw twice + measure"
    first_guess = report(f"{whole}, first guess", lambda: render_twice(digits, targets, 1), len(digits), args.repeats)
    exact = report(f"{whole}, exact", lambda: render_twice(digits, targets, 20), len(digits), args.repeats)
    if morphology is None:
        print("scikit-image is not installed: no reference")
        return
    images = list(digits[:, 0].numpy())
    theirs = report("scikit-image: measure", lambda: [measure_one(x) for x in images], len(images), args.repeats)
    theirs_whole = report(
        "scikit-image: perturb twice + measure",
        lambda: [perturb_twice(x, *(t["thickness"][i].item() for t in targets)) for i, x in enumerate(images)],
        len(images),
        args.repeats,
    )
    print(f"ratio: {ours / theirs:.1f} measuring; drawing twice, measuring {first_guess / theirs_whole:.1f} with one")
    print(f"guess of the radius, as the original does, {exact / theirs_whole:.1f} until it measures what is asked")


def read_digits(n: int, data_dir: Path | None) -> Tensor:
    """Read ``n`` test digits of MNIST, or the bundled digits as often as it takes; uint8 (n, 1, 28, 28)."""
    if data_dir is not None:
        return read_idx(find_idx(data_dir, "t10k-images-idx3-ubyte"))[:n, None]
    bundled = torch.stack([read_image(DIGITS / name, 28, 1) for name in find_images(DIGITS)])
    return bundled.repeat(math.ceil(n / len(bundled)), 1, 1, 1)[:n]


def report(label: str, work: Callable[[], object], count: int, repeats: int) -> float:
    """Run ``work`` once to warm up, time it, print and return images per second."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    rate = count / min(times)
    print(f"{label:40}{rate:10.1f}")
    return rate


def render_twice(digits: Tensor, targets: list[dict[str, Tensor]], iterations: int) -> dict[str, Tensor]:
    """Redraw the digits, redraw the result, each with at most so many corrections, and measure it."""
    return measure(render(render(digits, **targets[0], iterations=iterations), **targets[1], iterations=iterations))


def expand(image: np.ndarray) -> np.ndarray:
    """Magnify bytes four times, to bytes."""
    return (255 * transform.pyramid_expand(image, upscale=SCALE, order=3)).astype(np.uint8)


def find_ink(image: np.ndarray) -> np.ndarray:
    """Mark what is at or above half of the range."""
    low, high = float(image.min()), float(image.max())
    return image >= low + (high - low) / 2


def measure_one(image: np.ndarray) -> dict[str, float]:
    """Measure one image, uint8 (H, W)."""
    fine = expand(image)
    skeleton, distance = morphology.medial_axis(find_ink(fine), return_distance=True, rng=0)
    mass = fine / max(int(fine.sum()), 1)
    y, x = np.indices(fine.shape)
    centre_x, centre_y = (mass * x).sum(), (mass * y).sum()
    shear = ((mass * x * y).sum() - centre_x * centre_y) / ((mass * y**2).sum() - centre_y**2)
    along = np.arange(fine.shape[0])
    position = x + 0.5 - shear * (y - centre_y)
    left_of = [mass[position < t].sum() for t in along]
    above = np.concatenate([[0], mass.sum(axis=1).cumsum()[:-1]])
    (left, right), (top, bottom) = (np.interp([0.01, 0.99], cdf, along) for cdf in (left_of, above))
    return {
        "thickness": 2 * distance[skeleton].mean() / SCALE,
        "intensity": float(np.median(image[find_ink(image)])),
        "slant": math.atan(-shear),
        "area": find_ink(fine).sum() / SCALE**2,
        "width": (right - left) / SCALE,
        "height": (bottom - top) / SCALE,
    }


def perturb(image: np.ndarray, thickness: float) -> np.ndarray:
    """Bring the stroke near a thickness: erode or dilate with a disk at four times the size, and reduce again."""
    ink = find_ink(expand(image))
    skeleton, distance = morphology.medial_axis(ink, return_distance=True, rng=0)
    radius = SCALE * thickness / 2 - distance[skeleton].mean()
    change = morphology.dilation if radius > 0 else morphology.erosion
    changed = change(ink, morphology.disk(round(abs(radius))))
    return (
        (255 * transform.pyramid_reduce(changed.astype(float), downscale=SCALE, order=3)).clip(0, 255).astype(np.uint8)
    )


def perturb_twice(image: np.ndarray, first: float, second: float) -> dict[str, float]:
    """Perturb one image, perturb the result, and measure it."""
    return measure_one(perturb(perturb(image, first), second))


if __name__ == "__main__":
    main()
