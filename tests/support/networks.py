"""Small networks with random weights: no output is zero by accident."""

import torch
from torch import Tensor, nn

from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.graphs import get_graph

F64 = torch.float64


def scatter(model: nn.Module, std: float = 0.1) -> nn.Module:
    """Move every weight at random, also those that start at zero, in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return model.double().eval()


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Draw float64 noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


GRAPH = get_graph("morphomnist")
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=F64) * 2 - 1
PARENTS = GRAPH.scm().sample(6, torch.Generator().manual_seed(2))


def make(
    code_dim: int = 4, prior: str = "conditional", prediction: str = "eps", std: float = 0.1
) -> DiffusionMechanism:
    """Build a mechanism for 8×8 images with fitted scaling; every weight is random, also those that start at zero."""
    unet = {"channels": 4, "multipliers": [1], "patch": 2}
    encoder = {"channels": 4, "multipliers": [1], "patch": 2, "dropout": 0.0}
    model = DiffusionMechanism(
        GRAPH.attributes, 1, 8, code_dim, prior, prediction=prediction, unet=unet, encoder=encoder
    )
    model.scaling.fit(GRAPH.scm().sample(200, torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return model.double().eval()
