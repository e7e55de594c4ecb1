"""What is trained further: a flow prior fitted to a trained mechanism, an oracle."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dscm import assets, checkpoint
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.errors import InputError
from dscm.graphs import get_graph
from dscm.training.further import PriorFit, restore_judge, restore_trained
from dscm.training.recipe import Recipe
from tests.support.networks import GRAPH, scatter

CPU = torch.device("cpu")
NETWORKS = {
    "unet": {"channels": 4, "multipliers": [1], "patch": 2},
    "encoder": {"channels": 4, "multipliers": [1], "patch": 2, "dropout": 0.9},
}


def write(path: Path, prior: str = "conditional", code_dim: int = 3, **settings: Any) -> DiffusionMechanism:
    """Save a mechanism for 8×8 images with random weights, and return it."""
    config = {"size": 8, "code_dim": code_dim, "prior": prior, **NETWORKS}
    model = checkpoint.build("image", GRAPH, config)
    assert isinstance(model, DiffusionMechanism)
    model.fit_scaling(GRAPH.scm().sample(200, torch.Generator().manual_seed(0)))
    checkpoint.save(
        path, "image", scatter(model).float(), GRAPH, config, {"p_null": 0.1, "null_apart": None, **settings}
    )
    return model


def start(path: Path, only_prior: bool = True, **choices: Any) -> PriorFit:
    recipe = Recipe(prior="flow", fine_tune=path, only_prior=only_prior, **choices)
    return PriorFit(restore_trained(recipe, GRAPH, CPU)[0])


@pytest.mark.parametrize("prior", ["standard", "conditional", "flow"])
def test_nothing_changes_before_the_fit(prior: str, tmp_path: Path) -> None:
    """The flow that is added is the identity, and one that is there already stays."""
    before, path = write(tmp_path / "model.pt", prior), tmp_path / "model.pt"
    after = start(path).mechanism.double()
    data = GRAPH.scm().sample(6, torch.Generator().manual_seed(2))
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    other = {name: value.flip(0) for name, value in data.items()}
    images = []
    for model in (before.double(), after):
        view = model.using(steps=3)
        images.append(view.predict(view.abduct(x, data), other))
    torch.testing.assert_close(images[1], images[0], rtol=1e-8, atol=1e-8)


def test_the_flow_alone_learns_from_codes_without_dropout(tmp_path: Path) -> None:
    write(tmp_path / "model.pt")
    fit = start(tmp_path / "model.pt").train()
    data = GRAPH.scm().sample(6, torch.Generator().manual_seed(2))
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.manual_seed(0)
    losses = [fit(x, data)["loss"] for _ in range(2)]
    assert torch.equal(*losses)
    losses[0].backward()
    learns = {name for name, parameter in fit.named_parameters() if parameter.grad is not None}
    assert learns == {name for name, _ in fit.named_parameters() if name.startswith("mechanism.prior.flow")}


def test_another_mechanism_or_another_dropping_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "spatial.pt", code_dim=0)
    with pytest.raises(InputError, match="holds spatial of morphomnist, not semantic of morphomnist"):
        start(tmp_path / "spatial.pt")
    write(tmp_path / "unguided.pt", p_null=0.0)
    with pytest.raises(InputError, match="p_null 0.1: the model of fine_tune was trained with 0.0; give the same"):
        start(tmp_path / "unguided.pt")
    start(tmp_path / "unguided.pt", p_null=0.0)
    start(tmp_path / "unguided.pt", only_prior=False)
    write(tmp_path / "flow.pt", "flow")
    with pytest.raises(InputError, match="prior conditional: the model of fine_tune has flow; only flow may follow"):
        restore_trained(Recipe(prior="conditional", fine_tune=tmp_path / "flow.pt"), GRAPH, CPU)


def test_a_new_flow_is_refused_where_nothing_would_fit_it(tmp_path: Path) -> None:
    """What obeys leaves the prior as it is; a flow that is there already stays."""
    write(tmp_path / "model.pt")
    write(tmp_path / "flow.pt", "flow")
    for name in ("obey", "keep"):
        text = f"prior flow: {name} leaves the prior as it is, and the model of fine_tune has"
        with pytest.raises(InputError, match=text):
            restore_trained(Recipe(prior="flow", fine_tune=tmp_path / "model.pt", **{name: 0.1}), GRAPH, CPU)
    restore_trained(Recipe(prior="flow", obey=0.1, fine_tune=tmp_path / "flow.pt"), GRAPH, CPU)


def test_an_oracle_goes_on_from_its_weights_and_with_its_graph() -> None:
    """A bundled one is trained further as it is; the oracle of another graph is refused."""
    graph = get_graph("embed")
    path = assets.find("oracle", graph)
    assert path is not None
    recipe = Recipe(part="oracle", fine_tune=path)
    assert recipe.trained == "oracle" and not recipe.tunes_diffusion and not recipe.judged
    oracle, config = restore_judge(recipe, graph, CPU)
    held = checkpoint.read(path, "oracle")
    assert config == held["config"] and all(parameter.requires_grad for parameter in oracle.parameters())
    assert all(torch.equal(value.half(), held["model"][name].half()) for name, value in oracle.state_dict().items())
    with pytest.raises(InputError, match="embed-oracle.pt: an oracle of embed, not morphomnist"):
        restore_judge(recipe, GRAPH, CPU)
