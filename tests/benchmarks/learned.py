"""Compare learned attribute mechanisms with Morpho-MNIST's known equations: densities, and counterfactual intensity.

python tests/benchmarks/learned.py
"""

import argparse
import math
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from tqdm import tqdm

from dscm.causal.graph import Graph
from dscm.causal.graph_file import parse
from dscm.causal.learned import LearnedAttributes
from dscm.causal.scm import SCM
from dscm.graphs import get_graph
from dscm.training.presets import get_preset
from dscm.training.trainer import Trainer


def free_graph() -> Graph:
    """Return the graph of Morpho-MNIST without its equations; intensity is known to lie between 64 and 255."""
    known = get_graph("morphomnist").spec["variables"].items()
    variables = {name: {key: x for key, x in fields.items() if key != "equation"} for name, fields in known}
    variables["intensity"] |= {"type": "bounded", "range": [64, 255]}
    return parse({"variables": variables}, Path("free.json"))


def fit(graph: Graph, data: dict[str, Tensor], steps: int) -> LearnedAttributes:
    """Fit the mechanisms with the settings of ``train.py --part attributes``."""
    preset = get_preset("attributes", graph, "tiny")
    torch.manual_seed(0)
    model = LearnedAttributes(graph.attributes, **preset.model)
    model.fit_scaling(data)
    pixels = torch.empty(len(data["digit"]), 0, dtype=torch.uint8)  # attributes are fitted without
    trainer = Trainer(model, {**data, "image": pixels}, preset.training, torch.device("cpu"))
    for _ in tqdm(trainer.run(steps), total=steps, desc="fitting"):
        pass
    return cast(LearnedAttributes, trainer.average)


def true_density(truth: SCM, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the log density of every attribute under the equations, each (N,)."""
    exact = {name: value.double() for name, value in data.items()}
    noise = truth.abduct(exact)
    share = (exact["intensity"] - 64) / 191

    def normal(eps: Tensor, scale: Tensor | float) -> Tensor:
        return -(eps.square() + math.log(2 * math.pi)) / 2 - torch.as_tensor(scale).log()

    return {
        "thickness": truth.mechanisms["thickness"].log_prob(exact["thickness"]),
        "intensity": normal(noise["intensity"].eps, 0.5 * 191 * share * (1 - share)),
        "digit": truth.mechanisms["digit"].log_prob(data["digit"]),
        "slant": normal(noise["slant"], math.radians(3)),
    }


@torch.no_grad()
def main() -> None:
    """Fit on draws of the known model and print how the fit does on fresh ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=60_000, help="draws to fit to (default: 60,000)")
    parser.add_argument("--steps", type=int, default=2000, help="of Adam (default: 2000)")
    args = parser.parse_args()
    truth, graph = get_graph("morphomnist").scm(), free_graph()
    data, fresh = (truth.sample(n, torch.Generator().manual_seed(seed)) for n, seed in ((args.n, 1), (10_000, 2)))
    with torch.enable_grad():
        model = fit(graph, data, args.steps)
    for name, density in true_density(truth, fresh).items():
        learned = -model.mechanisms[name].log_prob(fresh[name], fresh).mean().item()
        print(f"{name}: {learned:.4f} nats, the equation {-density.mean().item():.4f}")
    do = {"thickness": fresh["thickness"].flip(0)}
    got = graph.scm(learned=model).counterfactual(fresh, do, torch.Generator().manual_seed(3))["intensity"]
    error = (got - truth.counterfactual(fresh, do)["intensity"]).abs()
    print(f"intensity under do(thickness): MAE {error.mean():.3f} of 255, at most {error.max():.1f}")


if __name__ == "__main__":
    main()
