"""LPIPS with the published weights, where they are to be had, and what is fed to it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm import assets
from dscm.evaluation.lpips import load_lpips, prepare

SHARED = Path(__file__).parents[2] / "shared" / "torch_home"


@pytest.fixture(scope="module")
def lpips() -> Callable[[Tensor, Tensor], Tensor]:
    """The distance; skips where the weights of AlexNet are neither in TORCH_HOME nor beside the repository."""
    home = Path(os.environ.get("TORCH_HOME", SHARED))
    if not list(home.glob("hub/checkpoints/alexnet-*.pth")):
        pytest.skip(f"no weights of AlexNet in {home}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home))
        distance, reason = load_lpips(torch.device("cpu"))
    assert distance is not None, reason
    return distance


@torch.no_grad()
def test_distance_behaves(lpips: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Nothing to itself, the same both ways, one number an image, more to another digit than to a noisy copy."""
    x = assets.read_observation(6)["image"]
    noisy = x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    other = x.roll(1, dims=0)
    assert torch.equal(lpips(x, x), torch.zeros(6))
    torch.testing.assert_close(lpips(x, other), lpips(other, x))
    assert lpips(x, other).shape == (6,) and (lpips(x, other) > lpips(x, noisy)).all()
    torch.testing.assert_close(lpips(x, other)[2:3], lpips(x[2:3], other[2:3]), rtol=1e-4, atol=1e-5)


def test_images_are_prepared() -> None:
    """Grey gets three channels, small ones 64 pixels, and nothing leaves [-1, 1]; large colour images stay."""
    small = prepare(torch.full((2, 1, 28, 49), 1.5))
    assert small.shape == (2, 3, 64, 112) and (small == 1).all()
    large = torch.rand(1, 3, 70, 80, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepare(large), large)


def test_missing_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network\nat all")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    assert load_lpips(torch.device("cpu")) == (None, "no network")
