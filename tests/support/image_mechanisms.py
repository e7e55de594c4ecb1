"""One small mechanism of an image of every kind, with random weights."""

import pytest
import torch
from torch import Tensor

from dscm.baselines.diffscm import DiffSCM
from dscm.baselines.hvae import HVAE, MediatorHVAE
from dscm.baselines.vae import VAE
from dscm.baselines.vci import VCI
from dscm.causal.image_mechanism import ImageMechanism
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.graphs import get_graph

PARENTS = get_graph("morphomnist").attributes
DIGIT = [variable for variable in PARENTS if variable.name == "digit"]
SIZE = 8
SMALL = {"channels": 8, "multipliers": (1, 2)}
UNET = {"unet": {"channels": 4, "multipliers": (1,)}}
MAKERS = {
    "vae": lambda: VAE(PARENTS, 1, SIZE, code_dim=4, embedding=8, **SMALL),
    "hvae": lambda: HVAE(PARENTS, 1, SIZE, latent=2, embedding=8, **SMALL),
    "hvae-mediator": lambda: MediatorHVAE(PARENTS, 1, SIZE, latent=2, embedding=8, **SMALL),
    "vci": lambda: VCI(
        PARENTS, 1, SIZE, 4, omega=(10, 0.02, 0.01), embedding=8, critic={**SMALL, "patch": 2}, patch=2, **SMALL
    ),
    "diffscm": lambda: DiffSCM(DIGIT, 1, SIZE, **UNET, classifier={**SMALL, "patch": 1}),
    "spatial": lambda: DiffusionMechanism(PARENTS, 1, SIZE, **UNET),
    "semantic": lambda: DiffusionMechanism(PARENTS, 1, SIZE, 4, encoder=SMALL, **UNET),
}
MAKERS |= dict.fromkeys(("dynamic", "residual"), MAKERS["semantic"])
MAKERS["hvae-residuals"] = MAKERS["hvae-mediator"]
EVERYWHERE = {"guidance": 1.5, "guidance_interval": (0.0, 1000.0), "steps": 4}
SOLVED = {"steps": 6, "solver": "ddim"}
SETTINGS = {  # of sampling
    "hvae-residuals": {"residuals": True},
    "diffscm": SOLVED,
    **dict.fromkeys(("spatial", "semantic"), {"guidance": 1.0, **SOLVED}),
    **{name: {**EVERYWHERE, "abduction": name} for name in ("dynamic", "residual")},
}


# Of composition; the others make no promise.
EXACT = {"vae": 1e-10, "hvae": 1e-10, "hvae-residuals": 1e-10, "spatial": 1e-6, "semantic": 1e-6, "residual": 1e-6}
each = pytest.mark.parametrize("name", MAKERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str) -> ImageMechanism:
    """A mechanism with random weights everywhere, also where training starts from zeros."""
    torch.manual_seed(0)
    model = MAKERS[name]().double().eval()
    for i, parameter in enumerate(model.parameters()):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.005, generator=seeded(i))
    model.fit_scaling(observe(50))
    return model.using(**SETTINGS.get(name, {}))


def observe(n: int = 3) -> dict[str, Tensor]:
    """Attributes and images."""
    attributes = get_graph("morphomnist").scm().sample(n, seeded(1))
    image = 2 * torch.rand(n, 1, SIZE, SIZE, generator=seeded(2), dtype=torch.float64) - 1
    return {name: value if name == "digit" else value.double() for name, value in attributes.items()} | {"image": image}
