"""Time counterfactuals of the bundled digits: seconds an image for each abduction, in one batch and one at a time.

python tests/benchmark_counterfactuals.py --batch 64 --single 4
"""

import argparse
import time

import torch

from dscm import assets, checkpoint
from dscm.dynamic import Alignment
from dscm.graphs import get_graph
from dscm.image import Sampling


@torch.no_grad()
def main() -> None:
    """Time one abduction and one prediction for each kind of abduction, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="images in the batch, at most 64 (default: 64)")
    parser.add_argument("--single", type=int, default=4, help="images that are done one at a time (default: 4)")
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps each way (default: 50)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mechanism, content = checkpoint.restore(assets.find("semantic"), "image", device)
    scm = get_graph(content["graph"]).scm(mechanism)
    obs = {name: value.to(device) for name, value in assets.read_observation(args.batch).items()}

    def run(part: slice) -> None:
        scm.counterfactual({name: value[part] for name, value in obs.items()}, {"thickness": 4.0})
        if device.type == "cuda":
            torch.cuda.synchronize()

    print(f"seconds an image on {device}, {args.threads} thread(s), {args.steps} steps, ω = 3")
    print(f"{'abduction':>12}{f'batch {args.batch}':>12}{'batch 1':>12}{'ratio':>8}")
    for abduction in ("semantic", "residual", "dynamic"):
        mechanism.sampling = Sampling(3.0, steps=args.steps, abduction=abduction, alignment=Alignment())
        run(slice(0, 1))
        began = time.perf_counter()
        run(slice(0, args.batch))
        together = (time.perf_counter() - began) / args.batch
        began = time.perf_counter()
        for i in range(args.single):
            run(slice(i, i + 1))
        single = (time.perf_counter() - began) / args.single
        print(f"{abduction:>12}{together:12.4f}{single:12.4f}{single / together:8.1f}")


if __name__ == "__main__":
    main()
