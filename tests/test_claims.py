"""What the README says of the bundled checkpoints, on a few of the bundled digits."""

import pytest
import torch
from torch import Tensor

from dscm import assets, checkpoint
from dscm.data.folder import find_images, read_attributes, read_image
from dscm.data.scaling import to_signed
from dscm.graphs import get_graph
from dscm.image import Sampling
from dscm.metrics import l1, observe
from dscm.oracles import DigitOracle
from dscm.scm import SCM

N, CPU = 24, torch.device("cpu")


@pytest.fixture(scope="module")
def obs() -> dict[str, Tensor]:
    """The first bundled digits with their attributes."""
    paths = find_images(assets.DIGITS)
    names = ["thickness", "intensity", "digit", "slant"]
    given = read_attributes(assets.DIGITS / "attributes.csv", [p.as_posix() for p in paths], names, ["digit"])
    images = torch.stack([read_image(assets.DIGITS / path, 28, 1) for path in paths[:N]])
    return {"image": to_signed(images), **{name: value[:N] for name, value in given.items()}}


@pytest.fixture(scope="module")
def oracle() -> DigitOracle:
    """The bundled digit classifier."""
    return checkpoint.restore(assets.ORACLE, "oracle", CPU)[0]


@pytest.fixture(scope="module", params=["spatial", "semantic"])
def scm(request: pytest.FixtureRequest) -> SCM:
    """A bundled model, at ω = 1.5 with 25 steps."""
    mechanism, content = checkpoint.restore(assets.CHECKPOINTS[request.param], "image", CPU)
    mechanism.sampling = Sampling(guidance=1.5, steps=25)
    return get_graph(content["graph"]).scm(mechanism)


@torch.no_grad()
def test_counterfactuals_obey_the_intervention_and_the_graph(scm: SCM, oracle: DigitOracle, obs: dict) -> None:
    graph, noise = get_graph("morphomnist"), scm.abduct(obs)
    assert l1(scm.predict(noise)["image"], obs["image"]).mean() < 0.02
    thick = scm.predict(noise, {"thickness": 4.0})
    got = observe(thick["image"], graph, oracle)
    assert (got["thickness"] - 4).abs().mean() < 0.3
    assert (got["intensity"] - thick["intensity"]).abs().mean() < 10  # the descendant follows
    assert (got["digit"] == obs["digit"]).float().mean() > 0.85  # what is no descendant stays
    threes = scm.predict(noise, {"digit": 3})
    got = observe(threes["image"], graph, oracle)
    assert (got["digit"] == 3).float().mean() > 0.85
    assert (got["slant"] - threes["slant"]).abs().mean() < 0.08


@torch.no_grad()
def test_composition_without_guidance_is_close_to_exact(scm: SCM, obs: dict) -> None:
    image = scm.mechanisms["image"]
    image.sampling = Sampling(guidance=1.0, steps=25, fixed_point=3)
    assert l1(scm.counterfactual(obs, {})["image"], obs["image"]).max() < 0.01
    image.sampling = Sampling(guidance=1.5, steps=25)


@torch.no_grad()
def test_oracle_reads_the_bundled_digits(oracle: DigitOracle, obs: dict) -> None:
    assert (oracle.predict(obs["image"]) == obs["digit"]).float().mean() > 0.95
