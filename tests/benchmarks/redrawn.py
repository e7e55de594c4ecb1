"""How far from the true counterfactual one stays who knows how digits are drawn, and has the observation alone.

    python tests/benchmarks/redrawn.py --data-dir MNIST --n 1024 --mixture off

The true counterfactual is redrawn from the handwritten digit, which nobody observes. Redrawn from the observation, by
the same program, with the same attributes, it differs by what the first drawing lost: no model that sees the
observation alone is told more, though one that guesses medians may come nearer. The images and interventions are those
of ``evaluate.py``, seed 0.
"""

import argparse
from pathlib import Path

import torch

from dscm.data.cache import user_cache_dir
from dscm.data.morphomnist.dataset import redraw
from dscm.data.scaling import l1, to_signed
from dscm.data.sets import Source, get_data_set
from dscm.evaluation.task import draw_parents, set_task
from dscm.graphs import get_graph


def main() -> None:
    """Print the distances, ×10⁻²."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="a folder with MNIST's four files")
    parser.add_argument("--n", type=int, default=512, help="test digits (default: %(default)s)")
    parser.add_argument("--mixture", choices=("on", "off"), default="on", help="off is the paper's data")
    args = parser.parse_args()
    graph = get_graph("morphomnist")
    source = Source(args.data_dir, user_cache_dir(), mixture=args.mixture == "on")
    data_set = get_data_set(graph, source)
    data = {name: value[: args.n] for name, value in data_set.load("test", 28).items()}
    task = set_task(graph, data, "marginal", 0, data_set.truth())
    parents, x = draw_parents(graph, task.obs, task.interventions, 0), task.obs["image"]
    for name, levels in task.truths.items():
        truth, guess = to_signed(levels), to_signed(redraw(data["image"], parents[name]))
        shown = {"unchanged": l1(x, truth), "redrawn from the observation": l1(guess, truth)}
        words = ", ".join(f"{what} {100 * error.mean():.2f} (median {100 * error.median():.2f})"
                          for what, error in shown.items())  # fmt: skip
        print(f"do({name}), {len(x)} digits: {words}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
