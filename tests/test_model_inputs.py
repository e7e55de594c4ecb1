"""What Python users pass by mistake: one line that says what is wrong, and never an answer."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import dscm
from dscm import assets
from dscm.errors import InputError
from dscm.model import Model

FILE = assets.DIGITS / "00000.png"
DIGIT = np.asarray(Image.open(FILE).convert("L"))
Obs = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def model() -> Model:
    """The bundled model of digits."""
    return dscm.load("morphomnist", steps=2)


@pytest.fixture(scope="module")
def obs(model: Model) -> Obs:
    """Two digits."""
    return model.observe([FILE, assets.DIGITS / "00001.png"])


@pytest.mark.parametrize(
    ("images", "attributes", "message"),
    [
        (FILE, {"digt": 3}, "unknown variable 'digt'; known: thickness"),
        (FILE, {"image": 3}, "unknown variable 'image'"),
        (FILE, {"thickness": [float("nan")]}, r"thickness=nan: must be 0.5 to 10 px \(image 00000\)"),
        ([FILE, DIGIT], {"thickness": [2.0, -5.0]}, r"thickness=-5.0: must be 0.5 to 10 px \(image 00001\)"),
        ([FILE, DIGIT], {"digit": [2]}, "digit: 1 values for a batch of 2"),
        ([FILE, DIGIT, 255 - DIGIT], {}, "image 00002: dark strokes on a bright background; white strokes on black"),
        ([np.zeros_like(DIGIT)] * 2, {}, r"image 00000: blank, all pixels are equal; .* \(2 such images\)"),
        (
            255 - 255 * (np.indices((28, 28)).min(0) < 3),
            {},
            "image 00000: thickness measured as .* px; allowed: 0.5 to 10",
        ),
    ],
)
def test_observations_refused(model: Model, images: Any, attributes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.observe(images, attributes)
    with pytest.raises(InputError, match=message):
        model.counterfactual(images, {"thickness": 3.0}, attributes=attributes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thickness": torch.tensor([1.0, torch.nan])}, r"thickness=nan: must be 0.5 to 10 px \(image 00001\)"),
        ({"intensity": torch.tensor([255.5, 1.0])}, r"intensity=255.5: must be 0 to 255 .* \(image 00000\)"),
        ({"digit": torch.tensor([1, 11])}, "digit=11: must be a whole number, 0 to 9"),
        ({"digit": torch.tensor([1.5, 1.0])}, "digit=1.5: must be a whole number"),
        ({"thickness": torch.ones(3)}, "thickness: 3 values for a batch of 2"),
        ({"thickness": torch.ones(2, 1)}, r"thickness: values of shape \(2, 1\)"),
        ({"thicknes": torch.ones(2)}, "unknown variable 'thicknes'"),
        ({"image": np.zeros((2, 1, 28, 28), np.uint8)}, "'image' must be uint8 of shape"),
    ],
)
def test_abduction_refuses(model: Model, obs: Obs, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.abduct({**obs, **change})


CALLS: dict[str, tuple[Callable[[Model, Obs, Any], object], str]] = {
    "observation without a variable": (
        lambda m, o, n: m.abduct({name: value for name, value in o.items() if name != "slant"}),
        "the observation lacks slant",
    ),
    "observation of another batch": (
        lambda m, o, n: m.predict(n, {"thickness": 3.0}, {name: value[:1] for name, value in o.items()}),
        "the noise of thickness is of a batch of 2, observed thickness of one of 1",
    ),
    "do that is text": (
        lambda m, o, n: m.predict(n, "thickness=3"),
        "do thickness=3: must be a dict of values by name",
    ),
    "attributes in a list": (
        lambda m, o, n: m.observe(FILE, [3.0]),
        "attributes .3.0.: must be a dict of values by name",
    ),
    "an observation of images": (lambda m, o, n: m.abduct(FILE), "obs .*: must be a dict of tensors by name"),
    "noise that is none": (lambda m, o, n: m.predict(3), "noise 3: must be a dict by name, as abduct returns it"),
    "noise of a number": (
        lambda m, o, n: m.predict({**n, "slant": 3.0}),
        "the noise of slant: must be as abduct returns",
    ),
    "an integer beyond floats": (
        lambda m, o, n: m.using(steps=10**400),
        "steps 10000.*: must be an integer, at least 1",
    ),
    "a setting in lines": (lambda m, o, n: m.using(grid=np.eye(2)), r"grid \[\[1. 0.\]  ?\[0. 1.\]\]: must be one of"),
    "a model in a list": (
        lambda m, o, n: dscm.load(["morphomnist"]),
        "source .'morphomnist'.: must be the path of a run",
    ),
    "do of the image": (lambda m, o, n: m.predict(n, {"image": 0}), "unknown variable 'image'"),
    "do of infinity": (lambda m, o, n: m.predict(n, {"thickness": torch.inf}), "thickness=inf: must be 0.5 to 10 px"),
    "do of other batches": (
        lambda m, o, n: m.predict(n, {"thickness": [2.0] * 3}),
        r"do\(thickness\) has shape \(3,\)",
    ),
    "effect": (lambda m, o, n: m.effect(o, n, {"thickness": 5.0}, "directt"), "effect 'directt': must be one of"),
    "negative seed": (lambda m, o, n: m.abduct(o, seed=-1), "seed -1: must be an integer, 0 to 4611686018427387904"),
    "huge seed": (lambda m, o, n: m.sample(1, seed=2**70), "seed 1180591620717411303424: must be an integer"),
    "seed of text": (lambda m, o, n: m.sample(1, seed="1"), "seed 1: must be an integer"),
    "no samples": (lambda m, o, n: m.sample(0), "n 0: must be an integer, 1 to"),
    "no batch": (
        lambda m, o, n: m.counterfactual(FILE, {"thickness": 3.0}, batch=0),
        "batch 0: must be an integer, 1 to",
    ),
    "seed of a question": (lambda m, o, n: m.counterfactual(FILE, {"thickness": 3.0}, seed=-3), "seed -3: must be"),
    "guidance": (lambda m, o, n: m.using(guidance=float("nan")), "guidance nan: must be"),
    "guidance that is infinite": (lambda m, o, n: m.using(guidance="inf"), "guidance"),
    "steps": (lambda m, o, n: m.using(steps=2.5), "steps 2.5: must be an integer"),
    "too many steps": (lambda m, o, n: m.using(steps=10**9), "steps 1000000000: must be"),
    "an integer of NumPy": (lambda m, o, n: m.using(steps=np.int64(0)), "steps 0: must be an integer, at least 1"),
    "words": (lambda m, o, n: m.using(guidance_interval=("0", "1")), "guidance_interval 0 1: must be two numbers"),
    "an endless interval": (lambda m, o, n: m.using(guidance_interval=(0.0, torch.inf)), "guidance_interval 0.0 inf"),
    "noise level": (lambda m, o, n: m.using(sigma_min=float("nan")), "sigma_min nan: must be a number"),
    "range": (lambda m, o, n: m.observe(DIGIT / 255, value_range=(1.0, 0.0)), "value_range .*: must be two finite"),
}


@pytest.mark.parametrize("case", CALLS.values(), ids=CALLS)
def test_calls_refused(model: Model, obs: Obs, case: tuple[Callable[[Model, Obs, Any], object], str]) -> None:
    call, message = case
    with pytest.raises(InputError, match=message):
        call(model, obs, model.abduct(obs))


def test_an_image_that_is_not_finite_is_never_black(model: Model, obs: Obs) -> None:
    """Here of a noise that is not; a file of noise or weights that diverged have the same end."""
    noise = model.abduct(obs)
    image = noise["image"]
    broken = image._replace(**{image._fields[0]: image[0] * torch.tensor([1.0, torch.nan])[:, None, None, None]})
    with pytest.raises(InputError, match="image 00001: the image would not be finite"):
        model.predict(noise | {"image": broken})


def test_what_is_right_needs_no_care(model: Model, obs: Obs) -> None:
    """No intervention is composition; an observation may have gradients, and change after its abduction."""
    own = {name: value.clone() for name, value in obs.items()}
    noise = model.abduct(own | {"slant": own["slant"].requires_grad_()})
    own["thickness"][0], own["image"][:] = 9.0, 0
    again = model.predict(noise, {})
    torch.testing.assert_close(again["thickness"], obs["thickness"])
    assert not again["slant"].requires_grad and torch.equal(again["digit"], obs["digit"])
    fed = model.predict(noise, {"thickness": 10.0})
    assert torch.equal(model.predict(model.abduct(fed))["thickness"], fed["thickness"]), "an answer can be asked about"
    assert model.observe(DIGIT > 45)["image"].max() == 255, "a mask is black and white"
