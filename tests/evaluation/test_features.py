"""Embeddings of images: which there are, and what they are made of."""

import os
import warnings
from pathlib import Path

import pytest
import torch

from dscm import assets
from dscm.data.scaling import to_levels
from dscm.evaluation.features import embed, load_embeddings
from dscm.graphs import get_graph
from dscm.oracle import Oracle

SHARED = Path(__file__).parents[2] / "shared" / "torch_home"
CPU = torch.device("cpu")


def make_oracle() -> Oracle:
    """Make an oracle of digits."""
    torch.manual_seed(0)
    return Oracle(get_graph("morphomnist-digit").predicted, 1, channels=4, strokes=True).eval().requires_grad_(False)


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not downloaded; a damaged file is told too. Without an oracle there is no embedding left."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert list(load_embeddings(make_oracle(), CPU)[0]) == ["oracle"]
    found, missing = load_embeddings(None, CPU)
    folder = tmp_path / "hub" / "checkpoints"
    expected = {"alexnet": "alexnet-owt-7be5be79.pth", "inception": "inception_v3_google-0cc3c7bd.pth"}
    assert not found and missing == {name: f"{folder / file} is missing" for name, file in expected.items()}
    folder.mkdir(parents=True)
    (folder / expected["alexnet"]).write_bytes(b"no weights")
    assert "missing" not in load_embeddings(None, CPU)[1]["alexnet"]


def test_inception_sees_grey_images_as_large_ones_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,048 features of 299 pixels; of random weights, as the trained ones are not everywhere."""
    import torchvision

    network = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True)
    seen = []
    network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    monkeypatch.setattr("dscm.evaluation.features._check_weights", lambda url: None)
    monkeypatch.setattr("torchvision.models.inception_v3", lambda weights: network)
    monkeypatch.setattr("torchvision.models.alexnet", lambda weights: torch.nn.Module())
    x = -torch.ones(1, 1, 28, 28)
    assert embed(load_embeddings(None, CPU)[0]["inception"], x).shape == (1, 2048)
    black = torch.tensor([-2.118, -2.036, -1.804])[:, None, None].expand(3, 299, 299)  # −mean/std of ImageNet
    torch.testing.assert_close(seen[0][0], black, rtol=0, atol=1e-3)


def test_features_of_the_oracle_give_its_logits() -> None:
    """Of images that were rounded to 8 bits, however many at a time."""
    oracle, x = make_oracle(), assets.read_observation(6)["image"] * 1.01
    features = embed(oracle.features, x)
    assert torch.equal(features, embed(oracle.features, to_levels(x)))
    torch.testing.assert_close(oracle.head(features), oracle.logits(x.clamp(-1, 1))["digit"], rtol=1e-3, atol=1e-3)
    many = embed(oracle.features, x.repeat(40, 1, 1, 1))
    torch.testing.assert_close(many[234:], features, rtol=1e-4, atol=1e-5)


def test_alexnet_is_that_of_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its features are the mean over the image of LPIPS's last layer."""
    home = Path(os.environ.get("TORCH_HOME", SHARED))
    if not list(home.glob("hub/checkpoints/alexnet-*.pth")):
        pytest.skip(f"no weights of AlexNet in {home}")
    monkeypatch.setenv("TORCH_HOME", str(home))
    import lpips

    from dscm.evaluation.lpips import prepare

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)
    x = (assets.read_observation(4)["image"] * 127.5 + 127.5).round() / 127.5 - 1
    expected = network.net(network.scaling_layer(prepare(x))).relu5.mean(dim=(2, 3))
    features = embed(load_embeddings(None, CPU)[0]["alexnet"], x)
    assert features.shape == (4, 256) and features.std(dim=0).max() > 0.1
    torch.testing.assert_close(features, expected, rtol=1e-2, atol=1e-2)  # LPIPS's standardisation is rounded
